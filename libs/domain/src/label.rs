//! Labels that mean something to us.

/// What a label asks for. Any other label is none of our business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TriggerLabel {
    /// `run:<stage>`
    Run(String),
}

impl TriggerLabel {
    /// Reads a label; `None` when it is not a trigger.
    pub fn parse(label: &str) -> Option<Self> {
        let stage = label.trim().strip_prefix("run:")?;
        (!stage.is_empty()).then(|| Self::Run(stage.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_run_labels_trigger() {
        assert_eq!(TriggerLabel::parse("run:dev"), Some(TriggerLabel::Run("dev".to_owned())));
        assert_eq!(TriggerLabel::parse("bug"), None);
        assert_eq!(TriggerLabel::parse("run:"), None);
        assert_eq!(TriggerLabel::parse("state:in-review"), None);
    }
}
