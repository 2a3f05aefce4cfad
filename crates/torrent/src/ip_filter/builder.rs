//! Rules gathered, to be sorted once.

use std::net::IpAddr;
use std::sync::Arc;

use super::labels::NewLabels;
use super::ranges::{Range, Ranges};
use super::{Fault, FaultKind, IpFilter, Place, Rule, RuleError, Tables, p2b, text};

/// Rules that become an [`IpFilter`]; they may overlap, and come in any order.
#[derive(Clone, Debug, Default)]
pub struct IpFilterBuilder {
    v4: Vec<Range<u32>>,
    v6: Vec<Range<u128>>,
    labels: NewLabels,
}

/// What became of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Rules that were taken.
    pub rule_count: usize,
    /// What was left out because it is no rule.
    pub fault_count: usize,
    /// The first of these, at most 100.
    pub first_faults: Vec<Fault>,
}

impl IpFilterBuilder {
    /// Adds a rule. Of its text one line is kept, at most 255 bytes.
    ///
    /// # Errors
    /// If its ends make no range, or there are four million rules already.
    pub fn add(&mut self, rule: &Rule<'_>) -> Result<(), RuleError> {
        if self.len() >= RULES_MAX {
            return Err(RuleError::TooMany);
        }
        let is_reversed = match (rule.first.to_canonical(), rule.last.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => first > last,
            (IpAddr::V6(first), IpAddr::V6(last)) => first > last,
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                return Err(RuleError::MixedFamilies);
            }
        };
        if is_reversed {
            return Err(RuleError::Reversed);
        }
        let label = self.labels.add(rule.level, rule.text);
        match (rule.first.to_canonical(), rule.last.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                self.v4.push(Range { first: first.to_bits(), last: last.to_bits(), label });
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                self.v6.push(Range { first: first.to_bits(), last: last.to_bits(), label });
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
        }
        Ok(())
    }

    /// Adds the rules of a list: an `ipfilter.dat`, PeerGuardian's text (`.p2p`) or binary (`.p2b`)
    /// form, or a network a line (`10.0.0.0/8`). Lists in the wild have faults: what is no rule is
    /// left out and told of.
    ///
    /// # Errors
    /// The first fault, if there is no rule at all.
    pub fn load(&mut self, list: &[u8]) -> Result<Loaded, Fault> {
        if PACKED.iter().any(|start| list.starts_with(start)) {
            return Err(Fault { place: Place::Byte(0), kind: FaultKind::Compressed });
        }
        let loaded = if p2b::is_p2b(list) { p2b::load(list, self) } else { text::load(list, self) };
        match loaded.first_faults.first() {
            Some(fault) if loaded.rule_count == 0 => Err(*fault),
            _ => Ok(loaded),
        }
    }

    /// How many rules there are.
    pub const fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The filter.
    pub fn build(self) -> IpFilter {
        let labels = self.labels.finish();
        let v4 = Ranges::resolve(self.v4, |label| labels.get(label).0);
        let v6 = Ranges::resolve(self.v6, |label| labels.get(label).0);
        IpFilter { tables: Arc::new(Tables { v4, v6, labels }) }
    }
}

impl From<&IpFilter> for IpFilterBuilder {
    /// The filter's ranges, to be changed.
    fn from(filter: &IpFilter) -> Self {
        let mut builder = Self::default();
        for rule in filter.iter() {
            // Ranges side by side may be twice as many as the rules that they came of.
            if builder.add(&rule).is_err() {
                break;
            }
        }
        builder
    }
}

impl Loaded {
    /// Adds a rule of a list, or notes why it is none.
    pub(super) fn take(&mut self, place: Place, rule: Result<(), FaultKind>) {
        let Err(kind) = rule else {
            self.rule_count += 1;
            return;
        };
        self.fault_count += 1;
        if self.first_faults.len() < FAULTS_KEPT_MAX {
            self.first_faults.push(Fault { place, kind });
        }
    }
}

/// The largest public lists have under a million.
const RULES_MAX: usize = 4_000_000;
const FAULTS_KEPT_MAX: usize = 100;
/// How gzip, zip, 7-Zip, bzip2 and xz begin.
const PACKED: [&[u8]; 5] = [b"\x1f\x8b", b"PK\x03\x04", b"7z\xbc\xaf", b"BZh", b"\xfd7zXZ"];
