//! How faults are written: a name, and for some a number after `=`.

use std::{fmt, str::FromStr};

use super::{DeliveryFault, Fault};

/// What a fault is made of.
enum Shape<F> {
    Plain(F),
    /// It has a number; what that is, for people.
    Numbered(fn(u64) -> F, &'static str),
}

use Shape::{Numbered, Plain};

const REQUESTS: [(&str, Shape<Fault>); 16] = [
    ("refuse", Numbered(|n| Fault::Refuse(status(n)), "status")),
    ("lose-answer", Plain(Fault::LoseAnswer)),
    ("applied-then", Numbered(|n| Fault::AppliedThen(status(n)), "status")),
    ("secondary-limit", Numbered(Fault::SecondaryLimit, "seconds")),
    ("primary-limit", Numbered(Fault::PrimaryLimit, "seconds")),
    ("too-many", Numbered(Fault::TooMany, "seconds")),
    ("already-exists", Plain(Fault::AlreadyExists)),
    ("invalid", Plain(Fault::Invalid)),
    ("not-fast-forward", Plain(Fault::NotFastForward)),
    ("permission-taken", Plain(Fault::PermissionTaken)),
    ("token-expires", Plain(Fault::TokenExpires)),
    ("slow", Numbered(Fault::Slow, "milliseconds")),
    ("trickle", Numbered(Fault::Trickle, "milliseconds")),
    ("cut-body", Plain(Fault::CutBody)),
    ("not-json", Plain(Fault::NotJson)),
    ("list-lag", Numbered(Fault::ListLag, "milliseconds")),
];

const DELIVERIES: [(&str, Shape<DeliveryFault>); 4] = [
    ("drop", Plain(DeliveryFault::Drop)),
    ("duplicate", Plain(DeliveryFault::Duplicate)),
    ("hold-back", Plain(DeliveryFault::HoldBack)),
    ("delay", Numbered(DeliveryFault::Delay, "milliseconds")),
];

/// A status that does not fit is answered as 500.
fn status(n: u64) -> u16 {
    u16::try_from(n).unwrap_or(500)
}

/// There is no such fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no fault `{0}`; there are: {1}")]
pub struct UnknownFault(String, String);

fn parse<F: Copy>(text: &str, all: &[(&str, Shape<F>)]) -> Result<F, UnknownFault> {
    let (name, number) = text.split_once('=').map_or((text, None), |(name, n)| (name, n.parse().ok()));
    let shape = all.iter().find(|(known, _)| *known == name).map(|(_, shape)| shape);
    match (shape, number, text.contains('=')) {
        (Some(Plain(fault)), None, false) => Ok(*fault),
        (Some(Numbered(make, _)), Some(number), _) => Ok(make(number)),
        (Some(Plain(_) | Numbered(..)) | None, ..) => {
            let names = all.iter().map(|(name, shape)| match shape {
                Plain(_) => (*name).to_owned(),
                Numbered(_, what) => format!("{name}={}", what.to_uppercase()),
            });
            Err(UnknownFault(text.to_owned(), names.collect::<Vec<_>>().join(", ")))
        }
    }
}

fn numbered(f: &mut fmt::Formatter<'_>, name: &str, number: u64) -> fmt::Result {
    write!(f, "{name}={number}")
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Refuse(status) => numbered(f, "refuse", status.into()),
            Self::LoseAnswer => f.write_str("lose-answer"),
            Self::AppliedThen(status) => numbered(f, "applied-then", status.into()),
            Self::SecondaryLimit(n) => numbered(f, "secondary-limit", n),
            Self::PrimaryLimit(n) => numbered(f, "primary-limit", n),
            Self::TooMany(n) => numbered(f, "too-many", n),
            Self::AlreadyExists => f.write_str("already-exists"),
            Self::Invalid => f.write_str("invalid"),
            Self::NotFastForward => f.write_str("not-fast-forward"),
            Self::PermissionTaken => f.write_str("permission-taken"),
            Self::TokenExpires => f.write_str("token-expires"),
            Self::Slow(n) => numbered(f, "slow", n),
            Self::Trickle(n) => numbered(f, "trickle", n),
            Self::CutBody => f.write_str("cut-body"),
            Self::NotJson => f.write_str("not-json"),
            Self::ListLag(n) => numbered(f, "list-lag", n),
        }
    }
}

impl fmt::Display for DeliveryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Drop => f.write_str("drop"),
            Self::Duplicate => f.write_str("duplicate"),
            Self::HoldBack => f.write_str("hold-back"),
            Self::Delay(n) => numbered(f, "delay", n),
        }
    }
}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        parse(text, &REQUESTS)
    }
}

impl FromStr for DeliveryFault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        parse(text, &DELIVERIES)
    }
}

impl TryFrom<String> for Fault {
    type Error = UnknownFault;

    fn try_from(text: String) -> Result<Self, UnknownFault> {
        text.parse()
    }
}

impl TryFrom<String> for DeliveryFault {
    type Error = UnknownFault;

    fn try_from(text: String) -> Result<Self, UnknownFault> {
        text.parse()
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.to_string()
    }
}

impl From<DeliveryFault> for String {
    fn from(fault: DeliveryFault) -> Self {
        fault.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for (name, shape) in &REQUESTS {
            let text = match shape {
                Plain(_) => (*name).to_owned(),
                Numbered(..) => format!("{name}=7"),
            };
            assert_eq!(text.parse::<Fault>().expect("known").to_string(), text);
        }
        for (name, shape) in &DELIVERIES {
            let text = match shape {
                Plain(_) => (*name).to_owned(),
                Numbered(..) => format!("{name}=7"),
            };
            assert_eq!(text.parse::<DeliveryFault>().expect("known").to_string(), text);
        }
        for text in ["", "nothing", "refuse", "refuse=x", "lose-answer=3"] {
            let error = text.parse::<Fault>().expect_err(text).to_string();
            assert!(error.contains("refuse=STATUS, lose-answer"), "{error}");
        }
    }
}
