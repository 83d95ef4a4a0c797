//! Text that comes line by line: a private key is many of them.

use std::sync::LazyLock;

use regex::Regex;

use super::{CENSORED, Censor, patterns};

static BEGINS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(patterns::KEY_BEGINS).expect("the pattern is tested"));
static ENDS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(patterns::KEY_ENDS).expect("the pattern is tested"));
/// A line inside of a key: its digits or a header, perhaps numbered, quoted, or part of a diff.
static BODY: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[\s+>|*#-]*(?:[0-9]{1,6}[:|\t ]+)?[\s+>|*#-]*(?:[A-Za-z0-9+/=]*|(?:Proc-Type|DEK-Info|Version|Comment): .*)\s*$")
        .expect("the pattern is tested")
});

/// Censors one line after the other and remembers whether a private key is open, so that all of
/// it goes, however its lines are spread.
#[derive(Debug)]
pub struct CensoredLines<'c> {
    censor: &'c Censor,
    open: bool,
}

impl<'c> CensoredLines<'c> {
    /// Goes on where an earlier one was; `open` is its [`Self::key_is_open`].
    pub fn new(censor: &'c Censor, open: bool) -> Self {
        Self { censor, open }
    }

    /// A private key has begun and not ended.
    pub fn key_is_open(&self) -> bool {
        self.open
    }

    /// The line as it may be stored. It may itself have several lines.
    pub fn next(&mut self, text: &str) -> String {
        let lines: Vec<String> = self.censor.censor(text).split('\n').map(|line| self.one(line)).collect();
        lines.join("\n")
    }

    fn one(&mut self, line: &str) -> String {
        let begins = BEGINS.find_iter(line).last().map(|found| found.end());
        let ends = ENDS.find_iter(line).last().map(|found| found.end());
        if begins > ends {
            // What follows on this line is no key unless it looks like the beginning of one.
            let rest = begins.map_or("", |at| &line[at..]);
            self.open = rest.trim().is_empty() || rest.trim_start().starts_with(CENSORED);
            return line.to_owned();
        }
        if ends.is_some() {
            self.open = false;
            return line.to_owned();
        }
        if self.open && BODY.is_match(line) {
            return if line.trim().is_empty() { line.to_owned() } else { CENSORED.to_owned() };
        }
        // Code that only speaks of keys goes on with something else.
        self.open = self.open && line.trim().starts_with(CENSORED);
        line.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn censored(lines: &[&str]) -> (Vec<String>, bool) {
        let censor = Censor::default();
        let mut open = false;
        let mut out = Vec::new();
        // Each line in a chunk of its own.
        for line in lines {
            let mut one = CensoredLines::new(&censor, open);
            out.push(one.next(line));
            open = one.key_is_open();
        }
        (out, open)
    }

    #[test]
    fn a_key_goes_line_by_line() {
        let (lines, open) = censored(&[
            "$ cat key.pem",
            "-----BEGIN RSA PRIVATE KEY-----",
            "Proc-Type: 4,ENCRYPTED",
            "",
            "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7",
            "VJTUt9Us8cKj",
            "aB==",
            "-----END RSA PRIVATE KEY-----",
            "done",
        ]);
        assert_eq!(
            lines,
            [
                "$ cat key.pem",
                "-----BEGIN RSA PRIVATE KEY-----",
                "[censored]",
                "",
                "[censored]",
                "[censored]",
                "[censored]",
                "-----END RSA PRIVATE KEY-----",
                "done",
            ]
        );
        assert!(!open);
    }

    #[test]
    fn also_in_a_diff_and_numbered() {
        let (lines, _) = censored(&[
            "+-----BEGIN PRIVATE KEY-----",
            "+MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
            "   12\tBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
            "+-----END PRIVATE KEY-----",
        ]);
        assert_eq!(lines[1..3], ["[censored]", "[censored]"]);
    }

    #[test]
    fn a_key_that_is_cut_off_goes_on_in_the_next_chunk() {
        let (lines, open) = censored(&[
            "-----BEGIN PRIVATE KEY----- MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
            "BKcwggSjAgEAAoIBAQC7",
        ]);
        assert!(!lines[0].contains("MIIE") && lines[1] == "[censored]", "{lines:?}");
        assert!(open);
    }

    #[test]
    fn code_that_speaks_of_keys_stays() {
        let code = [
            "const HEAD: &str = \"-----BEGIN PRIVATE KEY-----\";",
            "fn is_key(text: &str) -> bool {",
            "}",
            "-----BEGIN PRIVATE KEY-----",
            "is what it begins with.",
            "done",
        ];
        let (lines, open) = censored(&code);
        assert_eq!(lines, code);
        assert!(!open);
    }
}
