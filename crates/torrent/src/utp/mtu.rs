//! How long packets may be: the longest that the path carries whole, found by trying
//! (packetization layer path MTU discovery, [RFC 4821]).
//!
//! A probe is a packet like any other, only padded, and asks not to be cut up on its way. If it is lost while
//! its neighbours arrive, the path does not carry it; it is then sent again without that wish, and as long as others
//! are: so even a path that drops without a word what is too long holds up nothing.
//! The first probe is as long as Ethernet allows, since most paths are.
//!
//! [RFC 4821]: https://www.rfc-editor.org/rfc/rfc4821

/// The search on one path. Lengths are those of datagrams, without the headers of IP and UDP.
#[derive(Clone, Debug)]
pub(super) struct PathMtu {
    /// Known, or taken for granted, to get through.
    floor: usize,
    /// Nothing above this does.
    ceiling: usize,
    /// What to fall back on should the floor not hold.
    least: usize,
    /// A length was found that the path does not carry.
    has_failed: bool,
    /// A packet of the floor's length got through.
    is_proven: bool,
    /// A probe is under way.
    is_probing: bool,
    /// How often the length that is probed was lost.
    losses: u8,
}

impl PathMtu {
    pub(super) const fn new(is_ipv4: bool) -> Self {
        let headers = if is_ipv4 { HEADERS_V4 } else { HEADERS_V6 };
        Self {
            floor: ASSUMED_MTU - HEADERS_V6,
            ceiling: ETHERNET_MTU - headers,
            least: if is_ipv4 { LEAST_MTU_V4 - HEADERS_V4 } else { ASSUMED_MTU - HEADERS_V6 },
            has_failed: false,
            is_proven: false,
            is_probing: false,
            losses: 0,
        }
    }

    /// How long packets are for now.
    pub(super) const fn len(&self) -> usize {
        self.floor
    }

    /// How long the next probe should be, if there should be one.
    pub(super) const fn probe_len(&self) -> Option<usize> {
        if self.is_probing || !self.is_proven || self.ceiling < self.floor + NEAR_ENOUGH {
            return None;
        }
        let half = (self.ceiling - self.floor).div_ceil(2);
        Some(if self.has_failed { self.floor + half } else { self.ceiling })
    }

    pub(super) const fn probe_sent(&mut self) {
        self.is_probing = true;
    }

    /// A packet of this length got through, whole if it was a probe.
    pub(super) fn arrived(&mut self, len: usize, is_probe: bool) {
        if is_probe {
            (self.is_probing, self.losses) = (false, 0);
            self.floor = self.floor.max(len);
            self.ceiling = self.ceiling.max(self.floor);
        }
        self.is_proven |= len >= self.floor;
    }

    /// A probe of this length was lost.
    pub(super) fn probe_lost(&mut self, len: usize) {
        self.is_probing = false;
        self.losses += 1;
        if self.losses >= LOSSES_MAX {
            (self.losses, self.has_failed) = (0, true);
            self.ceiling = len.saturating_sub(1).clamp(self.floor, self.ceiling);
        }
    }

    /// Our own system knows that a packet of this length is too long.
    pub(super) fn refused(&mut self, len: usize) {
        self.losses = LOSSES_MAX - 1;
        self.probe_lost(len);
    }

    /// Nothing gets through, again and again. Perhaps it is the length.
    pub(super) fn nothing_arrives(&mut self) {
        if !self.is_proven {
            (self.ceiling, self.has_failed) = (self.floor.max(self.least), true);
            self.floor = self.least;
        }
        self.is_proven = false;
        self.is_probing = false;
    }
}

const HEADERS_V4: usize = 20 + 8;
const HEADERS_V6: usize = 40 + 8;
const ETHERNET_MTU: usize = 1500;
/// Every path of IPv6 carries this, and as good as every one of IPv4.
const ASSUMED_MTU: usize = 1280;
const LEAST_MTU_V4: usize = 576;
/// It is not worth a probe to know better.
const NEAR_ENOUGH: usize = 16;
/// So often a length is tried: a probe may be lost as any packet.
const LOSSES_MAX: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ethernet_is_found_with_one_probe() {
        let mut mtu = PathMtu::new(true);
        assert_eq!((mtu.len(), mtu.probe_len()), (1232, None));
        mtu.arrived(1232, false);
        assert_eq!(mtu.probe_len(), Some(1472));
        mtu.probe_sent();
        assert_eq!(mtu.probe_len(), None);
        mtu.arrived(1472, true);
        assert_eq!((mtu.len(), mtu.probe_len()), (1472, None));
    }

    #[test]
    fn every_path_is_found_with_a_few_probes() {
        for is_ipv4 in [true, false] {
            for path in 1232..=1472 {
                let mut mtu = PathMtu::new(is_ipv4);
                mtu.arrived(1232, false);
                let mut probes = 0;
                while let Some(len) = mtu.probe_len() {
                    mtu.probe_sent();
                    if len <= path {
                        mtu.arrived(len, true);
                    } else {
                        mtu.probe_lost(len);
                    }
                    probes += 1;
                }
                assert!(mtu.len() <= path && mtu.len() + NEAR_ENOUGH > path.min(1452));
                assert!(probes <= 12, "{probes}");
            }
        }
    }

    #[test]
    fn falls_back_when_not_even_the_assumed_gets_through() {
        let mut mtu = PathMtu::new(true);
        mtu.nothing_arrives();
        assert_eq!(mtu.len(), 548);
        mtu.arrived(548, false);
        assert!(mtu.probe_len().is_some_and(|len| len < 1232));
        // A proven length is not given up for one silence.
        mtu.nothing_arrives();
        assert_eq!(mtu.len(), 548);
        let mut six = PathMtu::new(false);
        six.nothing_arrives();
        assert_eq!(six.len(), 1232);
    }
}
