//! What an agent found in a review. A claim, like everything an agent writes: it is read with
//! limits, and what does not read is kept as plain text.

use serde::{Deserialize, Serialize};

use crate::{censor::Censor, neutralise::visible};

/// Findings that are kept.
const MOST_FINDINGS: usize = 200;
/// Bytes of a path.
const PATH_BYTES: usize = 4096;
/// Bytes of one finding's text.
const BODY_BYTES: usize = 8 * 1024;
/// Bytes of the summary.
const SUMMARY_BYTES: usize = 64 * 1024;

/// How much a finding matters, most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It must not be merged like this.
    Blocking,
    /// It should be mended.
    Important,
    /// It could be better.
    Minor,
}

impl Severity {
    /// Every severity, most first.
    pub const ALL: [Self; 3] = [Self::Blocking, Self::Important, Self::Minor];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocking => "blocking",
            Self::Important => "important",
            Self::Minor => "minor",
        }
    }
}

/// A finding about a file of a pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewFinding {
    /// The file, from the root of the repository.
    pub path: String,
    /// Line of the new version; none: about the whole file.
    #[serde(default)]
    pub line: Option<u64>,
    /// How much it matters.
    pub severity: Severity,
    /// Markdown.
    pub body: String,
}

/// What a review found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Markdown.
    #[serde(default)]
    pub summary: String,
    /// Most important first, as the agent ordered them within a severity.
    #[serde(default)]
    pub findings: Vec<ReviewFinding>,
}

impl Findings {
    /// Reads what an agent wrote: `{"summary": "…", "findings": [{"path": "…", "line": 7,
    /// "severity": "blocking", "body": "…"}]}`, cut to size and censored.
    ///
    /// # Errors
    /// What is wrong with it, in words; never its text.
    pub fn parse(text: &str, secrets: &Censor) -> Result<Self, String> {
        let read: Self = serde_json::from_str(text).map_err(|error| {
            format!("line {}, column {}: not the JSON of a review", error.line(), error.column())
        })?;
        let clean = |text: &str, bytes: usize| {
            secrets.censor(&visible(&text[..text.floor_char_boundary(bytes)])).replace('\0', "")
        };
        let mut findings: Vec<ReviewFinding> = read
            .findings
            .into_iter()
            .map(|finding| ReviewFinding {
                path: clean(&finding.path, PATH_BYTES),
                body: clean(&finding.body, BODY_BYTES),
                line: finding.line.filter(|line| *line > 0),
                severity: finding.severity,
            })
            .collect();
        findings.sort_by_key(|finding| finding.severity);
        findings.truncate(MOST_FINDINGS);
        Ok(Self { summary: clean(&read.summary, SUMMARY_BYTES), findings })
    }

    /// How many there are of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Findings, String> {
        Findings::parse(text, &Censor::new([]))
    }

    #[test]
    fn findings_are_read_most_important_first() {
        let read = parse(
            r#"{"summary":"Two things.","findings":[
                {"path":"a.rs","line":3,"severity":"minor","body":"A typo."},
                {"path":"b.rs","severity":"blocking","body":"It does not compile.","more":1},
                {"path":"c.rs","line":0,"severity":"minor","body":"x"}]}"#,
        )
        .expect("findings");
        let seen: Vec<_> = read.findings.iter().map(|f| (f.path.as_str(), f.line)).collect();
        assert_eq!(seen, [("b.rs", None), ("a.rs", Some(3)), ("c.rs", None)]);
        assert_eq!(Severity::ALL.map(|severity| read.count(severity)), [1, 0, 2]);
        assert_eq!(
            serde_json::from_value::<Findings>(serde_json::to_value(&read).expect("JSON")).ok(),
            Some(read)
        );
    }

    #[test]
    fn what_does_not_read_says_where_and_repeats_nothing() {
        let error =
            parse("{\"findings\":[{\"path\":\"a\",\n\"severity\":\"hidden words\"}]}").expect_err("an error");
        // The column depends on how serde_json was built.
        assert!(error.starts_with("line 2, column "), "{error}");
        assert!(error.ends_with(": not the JSON of a review"), "{error}");
        assert!(parse("no JSON").is_err() && parse("7").is_err());
        assert_eq!(parse("{}"), Ok(Findings::default()));
    }

    #[test]
    fn it_is_cut_to_size_and_censored() {
        let secrets = Censor::new(["a secret of ours".to_owned().into()]);
        let finding =
            format!(r#"{{"path":"a","severity":"minor","body":"a secret of ours {}"}}"#, "ä".repeat(9000));
        let many = vec![finding; MOST_FINDINGS + 1].join(",");
        let read = Findings::parse(&format!(r#"{{"findings":[{many}]}}"#), &secrets).expect("findings");
        assert_eq!(read.findings.len(), MOST_FINDINGS);
        assert!(!read.findings[0].body.contains("a secret of ours"));
        assert!(read.findings[0].body.len() <= BODY_BYTES + 100);
    }
}
