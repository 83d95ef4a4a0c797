//! Shapes of well-known tokens, found in linear time.
//!
//! gitleaks' rules know most of these kinds as well. Ours stay because they are read everywhere:
//! in every line of a transcript, where two hundred rules would be too many; in files that
//! gitleaks passes over, such as lock files; and in a token that is longer or shorter than
//! gitleaks expects it today.

use std::{collections::HashSet, ops::Range, sync::LazyLock};

use regex::bytes::{Regex, RegexSet};

/// Different bytes a token has at least; fewer are a placeholder, such as `ghp_xxxx…`.
const VARIETY: usize = 6;

/// Whose token something looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// `ghp_`, `gho_`, `ghu_`, `ghs_`, `ghr_`, `github_pat_`.
    Github,
    /// `glpat-`.
    Gitlab,
    /// `AKIA`, `ASIA`.
    AwsKeyId,
    /// `AIza`.
    Google,
    /// `xoxb-` and its kin.
    Slack,
    /// `sk-ant-`.
    Anthropic,
    /// `sk-`, `sk-proj-`.
    Openai,
    /// `npm_`.
    Npm,
    /// `pypi-`.
    Pypi,
    /// `sk_live_`, `rk_live_`.
    Stripe,
    /// A JSON web token, three parts.
    Jwt,
    /// PEM.
    PrivateKey,
    /// What an `Authorization` header carries.
    Authorization,
}

impl std::fmt::Display for TokenKind {
    /// In words that follow "looks like".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Github => "a GitHub token",
            Self::Gitlab => "a GitLab token",
            Self::AwsKeyId => "an AWS access key",
            Self::Google => "a Google API key",
            Self::Slack => "a Slack token",
            Self::Anthropic => "an Anthropic API key",
            Self::Openai => "an OpenAI API key",
            Self::Npm => "an npm token",
            Self::Pypi => "a PyPI token",
            Self::Stripe => "a Stripe live key",
            Self::Jwt => "a JSON web token",
            Self::PrivateKey => "a private key",
            Self::Authorization => "the token of an Authorization header",
        })
    }
}

/// What begins a private key.
pub(super) const KEY_BEGINS: &str = r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----";
/// What ends one.
pub(super) const KEY_ENDS: &str = r"-----END (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----";
/// A line of one, and what divides lines: as it is, or as JSON and source code write it.
const KEY_LINES: &str = r"(?:(?:\s|\\[nrt]|[+>|*#-])*(?:[A-Za-z-]{3,12}: [^\n\\]{1,80}|[A-Za-z0-9+/=]{16,}))";

/// The secret itself is the first group, where there is one.
static PATTERNS: LazyLock<Vec<(TokenKind, String)>> = LazyLock::new(|| {
    use TokenKind as K;
    let pattern = |kind, text: &str| (kind, format!("(?-u){text}"));
    vec![
        pattern(K::Github, r"\bgh[pousr]_[A-Za-z0-9_]{36,}"),
        pattern(K::Github, r"\bgithub_pat_[A-Za-z0-9_]{40,}"),
        pattern(K::Gitlab, r"\bglpat-[A-Za-z0-9_-]{20,}"),
        pattern(K::AwsKeyId, r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
        pattern(K::Google, r"\bAIza[A-Za-z0-9_-]{35}"),
        pattern(K::Slack, r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
        pattern(K::Anthropic, r"\bsk-ant-[A-Za-z0-9_-]{20,}"),
        pattern(K::Openai, r"\bsk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,}"),
        pattern(K::Openai, r"\bsk-[A-Za-z0-9]{32,}"),
        pattern(K::Npm, r"\bnpm_[A-Za-z0-9]{36}\b"),
        pattern(K::Pypi, r"\bpypi-[A-Za-z0-9_-]{50,}"),
        pattern(K::Stripe, r"\b[sr]k_live_[A-Za-z0-9]{16,}"),
        pattern(K::Jwt, r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{16,}"),
        // The marks alone are found in much code; with a body between or after them it is a key.
        pattern(K::PrivateKey, &format!(r"{KEY_BEGINS}({KEY_LINES}+)")),
        pattern(
            K::Authorization,
            r#"(?i:\bauthorization)\\?["']?\s{0,4}[:=]\s{0,4}\\?["']?(?i:bearer|basic|token)\s{1,4}([A-Za-z0-9._~+/=-]{16,})"#,
        ),
    ]
});

/// Tells in one pass which patterns are worth a search.
static ANY: LazyLock<RegexSet> =
    LazyLock::new(|| RegexSet::new(PATTERNS.iter().map(|(_, text)| text)).expect("the patterns are tested"));
static EACH: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    PATTERNS.iter().map(|(_, text)| Regex::new(text).expect("the patterns are tested")).collect()
});

/// Everything in there that has the shape of a token. The ranges begin and end at ASCII.
pub(super) fn tokens(bytes: &[u8]) -> Vec<(TokenKind, Range<usize>)> {
    let mut found = Vec::new();
    for number in ANY.matches(bytes) {
        let kind = PATTERNS[number].0;
        for captures in EACH[number].captures_iter(bytes) {
            if let Some(secret) = captures.get(1).or_else(|| captures.get(0))
                && is_no_placeholder(kind, secret.as_bytes())
            {
                found.push((kind, secret.range()));
            }
        }
    }
    found
}

/// Documentation is full of tokens that are none.
fn is_no_placeholder(kind: TokenKind, secret: &[u8]) -> bool {
    let varied = secret.iter().rev().take(24).collect::<HashSet<_>>().len() >= VARIETY;
    match kind {
        // Digits are rare in base32; Amazon's own examples end like this.
        TokenKind::AwsKeyId => varied && !secret.ends_with(b"EXAMPLE"),
        TokenKind::Github
        | TokenKind::Gitlab
        | TokenKind::Google
        | TokenKind::Slack
        | TokenKind::Anthropic
        | TokenKind::Openai
        | TokenKind::Npm
        | TokenKind::Pypi
        | TokenKind::Stripe
        | TokenKind::Jwt
        | TokenKind::PrivateKey
        | TokenKind::Authorization => varied && secret.iter().any(u8::is_ascii_digit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first thing in there that has the shape of a token.
    fn token_in(bytes: &[u8]) -> Option<TokenKind> {
        tokens(bytes).into_iter().min_by_key(|(_, range)| range.start).map(|(kind, _)| kind)
    }

    /// So many characters that look random.
    fn body(length: usize) -> String {
        "a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXyZ".chars().cycle().take(length).collect()
    }

    #[test]
    fn tokens_are_found_wherever_they_stand() {
        let key = format!(
            "-----BEGIN RSA PRIVATE KEY-----\n{}\n{}\n-----END RSA PRIVATE KEY-----",
            body(64),
            body(20)
        );
        let table = [
            (TokenKind::Github, format!("ghp_{}", body(36))),
            (TokenKind::Github, format!("gho_{}", body(36))),
            (TokenKind::Github, format!("ghu_{}", body(36))),
            (TokenKind::Github, format!("ghs_{}", body(36))),
            (TokenKind::Github, format!("ghr_{}", body(36))),
            (TokenKind::Github, format!("github_pat_{}_{}", body(22), body(59))),
            (TokenKind::Gitlab, format!("glpat-{}", body(20))),
            (TokenKind::AwsKeyId, "AKIAQ3EGT5ZX2PLMNKBV".to_owned()),
            (TokenKind::AwsKeyId, "ASIAQ3EGT5ZX2PLMNKBV".to_owned()),
            (TokenKind::Google, format!("AIza{}", body(35))),
            (TokenKind::Slack, format!("xoxb-123456789012-{}", body(24))),
            (TokenKind::Anthropic, format!("sk-ant-api03-{}", body(80))),
            (TokenKind::Openai, format!("sk-proj-{}", body(64))),
            (TokenKind::Openai, format!("sk-{}", body(48))),
            (TokenKind::Npm, format!("npm_{}", body(36))),
            (TokenKind::Pypi, format!("pypi-AgEIcHlwaS5vcmc{}", body(60))),
            (TokenKind::Stripe, format!("sk_live_{}", body(24))),
            (TokenKind::Jwt, format!("eyJ{}.eyJ{}.{}", body(20), body(40), body(43))),
            (TokenKind::Authorization, format!("Authorization: Bearer {}", body(24))),
            (TokenKind::Authorization, format!("-H \"authorization: token {}\"", body(24))),
            (TokenKind::Authorization, format!("{{\\\"Authorization\\\": \\\"Bearer {}\\\"}}", body(24))),
            (TokenKind::PrivateKey, key.clone()),
            (TokenKind::PrivateKey, key.replace('\n', "\\n")),
            (TokenKind::PrivateKey, key.replace('\n', "\n+    ")),
            (
                TokenKind::PrivateKey,
                key.replace(
                    "-----\n",
                    "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123456789ABCDEF\n\n",
                ),
            ),
        ];
        for (kind, token) in table {
            for text in [token.clone(), format!("x={token};"), format!("\"{token}\"\n"), format!("é{token}é")]
            {
                assert_eq!(token_in(text.as_bytes()), Some(kind), "{text}");
                let censored = super::super::Censor::default().censor(&text).into_owned();
                assert!(censored.contains("[censored]"), "{censored}");
                assert!(!censored.contains("a1B2c3D4e5F6"), "{censored}");
            }
        }
    }

    #[test]
    fn ordinary_code_stays() {
        for text in [
            "let ghp_token = std::env::var(\"GITHUB_TOKEN\")?;",
            "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "aws_access_key_id = AKIAIOSFODNN7EXAMPLE",
            "const AKIA_PREFIX_OF_THE_KEYS = 1;",
            "class=\"sk-loading-indicator sk-chasing-dot sk-child\"",
            "export OPENAI_API_KEY=sk-your-key-goes-here",
            "xoxb-your-token-here",
            "npm_config_registry=https://registry.npmjs.org/ npm_lifecycle_event",
            "pypi-publish: uses: pypa/gh-action-pypi-publish@release/v1",
            "headers.insert(\"Authorization\", format!(\"Bearer {token}\"));",
            "curl -H 'Authorization: Bearer $TOKEN' -H 'authorization: Bearer <your-access-token>'",
            "Authorization: Bearer my-very-own-access-token",
            "if text.starts_with(\"-----BEGIN PRIVATE KEY-----\") { return Err(Kind::Pem) }",
            "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
            "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA1\n-----END PUBLIC KEY-----",
            "-----BEGIN CERTIFICATE-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA1\n-----END CERTIFICATE-----",
            "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "commit 0123456789abcdef0123456789abcdef01234567",
            "\"integrity\": \"sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==\"",
            "eyJhbGciOiJIUzI1NiJ9",
            "https://example.com/a.eyJ.b?task-1234567890123456789012345678901234567890",
            "let sk_live = stripe::Key::from_env();",
        ] {
            assert_eq!(token_in(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_searched_too() {
        let token = format!("ghp_{}", body(36));
        let bytes = [b"\xff\xfe\0".as_slice(), token.as_bytes(), b"\0\xff"].concat();
        assert_eq!(token_in(&bytes), Some(TokenKind::Github));
        assert_eq!(token_in(b"\xff\xfe\0"), None);
    }
}
