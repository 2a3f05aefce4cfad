//! The packets of uTP as bytes ([BEP 29]): a header of 20 bytes, extensions in a chain, and data.
//!
//! [BEP 29]: https://www.bittorrent.org/beps/bep_0029.html

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// It carries data.
    Data,
    /// The last of the sender's packets: nothing follows it.
    Fin,
    /// It acknowledges, and carries nothing.
    State,
    /// The connection is no more, or never was.
    Reset,
    /// Asks for a connection.
    Syn,
}

/// The fixed part of a packet. Times are in microseconds, and wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the packet is for.
    pub kind: PacketKind,
    /// Which connection of the receiver's with the sender it belongs to.
    pub connection_id: u16,
    /// When it was sent, by the sender's clock.
    pub timestamp: u32,
    /// How long the last packet of the other side took, by the difference of two clocks: only its
    /// changes mean something. 0 if there was none.
    pub timestamp_difference: u32,
    /// How many bytes the sender has room for.
    pub window: u32,
    /// The packet's number; of one that acknowledges only, the number that the next will have.
    pub sequence: u16,
    /// All packets of the other side up to this have come.
    pub acknowledged: u16,
}

/// A packet, read where it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its fixed part.
    pub header: Header,
    /// A bit for each packet after the one that is missing, from `acknowledged + 2` on: the lowest bit of
    /// the first byte is the first. Empty if nothing is missing.
    pub selective: &'a [u8],
    /// What it carries.
    pub payload: &'a [u8],
}

impl PacketKind {
    const fn number(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Fin => 1,
            Self::State => 2,
            Self::Reset => 3,
            Self::Syn => 4,
        }
    }

    const fn of_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Data,
            1 => Self::Fin,
            2 => Self::State,
            3 => Self::Reset,
            4 => Self::Syn,
            _ => return None,
        })
    }
}

impl Header {
    /// How long it is, in bytes.
    pub const LEN: usize = 20;

    /// The header of a packet whose first extension is of this kind; 0 is none.
    fn encode(&self, extension: u8) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let first = (self.kind.number() << 4) | VERSION;
        let [id_high, id_low] = self.connection_id.to_be_bytes();
        let words = [
            u32::from_be_bytes([first, extension, id_high, id_low]),
            self.timestamp,
            self.timestamp_difference,
            self.window,
            (u32::from(self.sequence) << 16) | u32::from(self.acknowledged),
        ];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// Writes the header of a packet without extensions.
    pub fn write_to(&self, place: &mut [u8; Self::LEN]) {
        *place = self.encode(0);
    }

    /// The same for one that has [`padding`] behind it.
    pub(super) fn write_padded_to(&self, place: &mut [u8; Self::LEN]) {
        *place = self.encode(ABILITIES);
    }
}

/// So many bytes that mean nothing, at least 12, at most 267: two extensions. The first says that its sender has none of
/// the abilities that a bit is set aside for: µTorrent's library, which Transmission uses too, takes no packet whose
/// first extension it does not know. The other is of a kind that nobody knows, and is skipped therefore.
pub(super) fn padding(len: usize) -> Vec<u8> {
    let len = u8::try_from(len.saturating_sub(12)).unwrap_or(u8::MAX);
    let mut bytes = vec![PADDING, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, len];
    bytes.resize(usize::from(len).saturating_add(12), 0);
    bytes
}

impl<'a> Packet<'a> {
    /// Whether a datagram may be one of ours, going by its first byte.
    pub fn is_likely(datagram: &[u8]) -> bool {
        let first = datagram.first().copied().unwrap_or_default();
        datagram.len() >= Header::LEN
            && first & 0x0f == VERSION
            && PacketKind::of_number(first >> 4).is_some()
    }

    /// Reads a packet. Extensions that are not known are skipped. `None` if it is none of version 1,
    /// or cut short.
    pub fn decode(datagram: &'a [u8]) -> Option<Self> {
        let (head, mut rest) = datagram.split_first_chunk::<{ Header::LEN }>()?;
        let [
            first,
            mut extension,
            c0,
            c1,
            t0,
            t1,
            t2,
            t3,
            d0,
            d1,
            d2,
            d3,
            w0,
            w1,
            w2,
            w3,
            s0,
            s1,
            a0,
            a1,
        ] = *head;
        if first & 0x0f != VERSION {
            return None;
        }
        let header = Header {
            kind: PacketKind::of_number(first >> 4)?,
            connection_id: u16::from_be_bytes([c0, c1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            timestamp_difference: u32::from_be_bytes([d0, d1, d2, d3]),
            window: u32::from_be_bytes([w0, w1, w2, w3]),
            sequence: u16::from_be_bytes([s0, s1]),
            acknowledged: u16::from_be_bytes([a0, a1]),
        };
        let mut selective: &[u8] = &[];
        while extension != 0 {
            let (&[next, len], behind) = rest.split_first_chunk()?;
            let (content, behind) = behind.split_at_checked(usize::from(len))?;
            if extension == SELECTIVE_ACK {
                selective = content;
            }
            (extension, rest) = (next, behind);
        }
        Some(Self { header, selective, payload: rest })
    }

    /// Appends the packet to `bytes`. Of `selective`, as much as can be told in one extension.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let len = self.selective.len().min(SELECTIVE_LEN_MAX);
        let (selective, _) = self.selective.split_at(len);
        if let (false, Ok(len)) = (selective.is_empty(), u8::try_from(len)) {
            bytes.extend_from_slice(&self.header.encode(SELECTIVE_ACK));
            bytes.extend_from_slice(&[0, len]);
            bytes.extend_from_slice(selective);
        } else {
            bytes.extend_from_slice(&self.header.encode(0));
        }
        bytes.extend_from_slice(self.payload);
    }
}

const VERSION: u8 = 1;
const SELECTIVE_ACK: u8 = 1;
/// A bit for each of 64 abilities, of which none is known.
const ABILITIES: u8 = 2;
/// A kind that nobody has given a meaning.
const PADDING: u8 = 0x70;
/// The longest mask of bits that fits into an extension: its length is a multiple of 4 below 256.
pub(super) const SELECTIVE_LEN_MAX: usize = 252;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    const HEADER: Header = Header {
        kind: PacketKind::Data,
        connection_id: 0x0102,
        timestamp: 0x0304_0506,
        timestamp_difference: 0x0708_090a,
        window: 0x0b0c_0d0e,
        sequence: 0x0f10,
        acknowledged: 0x1112,
    };

    #[test]
    fn packets_come_back_as_they_were() {
        for (number, selective) in [(0, &[][..]), (1, &[1, 0, 0, 0x80]), (4, &[])] {
            let kind = PacketKind::of_number(number).unwrap();
            let packet =
                Packet { header: Header { kind, ..HEADER }, selective, payload: b"something" };
            let mut bytes = Vec::new();
            packet.encode(&mut bytes);
            assert_eq!(Packet::decode(&bytes), Some(packet));
            assert!(Packet::is_likely(&bytes));
        }
    }

    #[test]
    fn the_header_stands_as_the_specification_has_it() {
        let mut bytes = [0; Header::LEN];
        Header { kind: PacketKind::Syn, ..HEADER }.write_to(&mut bytes);
        assert_eq!(bytes, [0x41, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]);
    }

    #[test]
    fn extensions_that_are_not_known_are_skipped() {
        let mut bytes = HEADER.encode(2).to_vec();
        bytes.extend_from_slice(&[1, 8, 0, 0, 0, 0, 0, 0, 0, 0, 77, 4, 5, 0, 0, 0, 0, 1, 9]);
        bytes.extend_from_slice(b"data");
        let packet = Packet::decode(&bytes).unwrap();
        assert_eq!((packet.selective, packet.payload), (&[5, 0, 0, 0][..], &b"data"[..]));
    }

    #[test]
    fn what_is_cut_short_or_of_another_version_is_no_packet() {
        let mut bytes = Vec::new();
        Packet { header: HEADER, selective: &[0; 8], payload: &[] }.encode(&mut bytes);
        assert!((0..bytes.len()).all(|len| Packet::decode(&bytes[..len]).is_none()));
        assert!(Packet::decode(&bytes).is_some());
        for first in [0x00, 0x02, 0x51, 0xf1, b'd'] {
            bytes[0] = first;
            assert_eq!(Packet::decode(&bytes), None);
            assert!(!Packet::is_likely(&bytes));
        }
    }

    #[test]
    fn noise_is_read_or_refused() {
        for seed in 0..2000 {
            let mut rng = Rng::from_seed(seed);
            let len = rng.below(80);
            let mut bytes: Vec<u8> = (0..len).map(|_| rng.u32() as u8).collect();
            if let Some(first) = bytes.first_mut() {
                *first = (rng.below(6) as u8) << 4 | 1;
            }
            if let Some(packet) = Packet::decode(&bytes) {
                assert!(packet.payload.len() + packet.selective.len() + Header::LEN <= len);
            }
        }
    }
}
