use proptest::{
    strategy::{Strategy, ValueTree},
    string::bytes_regex,
    test_runner::TestRunner,
};

use super::*;

fn all_expressions() -> impl Iterator<Item = &'static Expression> {
    let rules = &RULES.file.rules;
    let lists = rules.iter().flat_map(|rule| &rule.allowlists).chain([&RULES.file.allowlist]);
    let of_lists = lists.flat_map(|list| list.paths.iter().chain(&list.regexes));
    rules.iter().flat_map(|rule| rule.regex.iter().chain(&rule.path)).chain(of_lists)
}

/// An expression that does not compile would be a rule that finds nothing.
#[test]
fn every_expression_compiles() {
    assert_eq!(RULES.file.rules.len(), 222);
    for expression in all_expressions() {
        if let Err(problem) = expression.compile() {
            panic!("{}: {problem}", expression.source);
        }
    }
}

/// Random text of an expression's shape, made while the test runs: the repository has no secret,
/// and nothing a scanner takes for one.
fn of_the_shape(expression: &Expression, runner: &mut TestRunner) -> Vec<u8> {
    let mut shape = go_regex::for_this_crate(&expression.source);
    let anchors = [
        (r"\b", ""),
        (r"|\z)", ")"),
        ("|$)", ")"),
        ("(?:$|", "(?:"),
        ("(?:^|", "(?:"),
        (r"(?:\B|", "(?:"),
        ("|$|", "|"),
    ];
    for (anchor, nothing) in anchors {
        shape = shape.replace(anchor, nothing);
    }
    let shape = shape.trim_end_matches('$');
    let strategy = bytes_regex(&format!("(?-u){shape}")).unwrap_or_else(|e| panic!("{shape}: {e}"));
    strategy.new_tree(runner).expect("a text").current()
}

/// Each rule finds a text of its own shape, by its keyword, its entropy and past its allow lists.
#[test]
fn every_rule_finds_what_it_is_for() {
    let mut runner = TestRunner::deterministic();
    let mut silent = Vec::new();
    for (at, rule) in RULES.file.rules.iter().enumerate() {
        let finds = |runner: &mut TestRunner| {
            let path = rule.path.as_ref().map(|path| of_the_shape(path, runner));
            let path = path.map(|path| String::from_utf8_lossy(&path).into_owned());
            // Some keywords stand elsewhere in the file, as the name of who gave the token.
            let mut text = format!("{}\n", rule.keywords.first().map_or("", String::as_str)).into_bytes();
            text.extend(rule.regex.as_ref().map(|regex| of_the_shape(regex, runner)).unwrap_or_default());
            text.push(b'\n');
            let mut found = Vec::new();
            rule.search(&text, 0, path.as_deref(), &mut found);
            RULES.worth_trying(&text).contains(&at) && !found.is_empty()
        };
        if !(0..100).any(|_| finds(&mut runner)) {
            silent.push(&rule.id);
        }
    }
    assert_eq!(silent, Vec::<&String>::new());
}

/// The text in which a `~` stands for random letters and digits, as many as the number after it
/// in brackets says; so nothing here has a shape of its own.
fn filled(text: &str, seed: u64) -> String {
    let mut state = seed;
    let mut out = String::new();
    let mut parts = text.split("~[");
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (kind, rest) = part.split_once(']').expect("~[hex 40]");
        let (alphabet, length) = kind.split_once(' ').expect("~[hex 40]");
        let alphabet: &[u8] = match alphabet {
            "hex" => b"0123456789abcdef",
            "any" => b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
            "base64" => b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/",
            other => panic!("{other}"),
        };
        for _ in 0..length.parse().expect("a number") {
            // Numerical Recipes' generator: any will do.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            out.push(char::from(alphabet[(state >> 33) as usize % alphabet.len()]));
        }
        out.push_str(rest);
    }
    out
}

/// What people write every day is not held.
#[test]
fn ordinary_files_have_no_secrets() {
    let table = [
        (
            "package-lock.json",
            r#"{"node_modules/api-key": {"version": "1.2.3", "integrity": "sha512-~[base64 86]=="}}"#,
        ),
        ("sub/pnpm-lock.yaml", "  /token@1.0.0:\n    resolution: {integrity: sha512-~[base64 86]==}\n"),
        ("Cargo.lock", "[[package]]\nname = \"secrecy\"\nversion = \"0.10.3\"\nchecksum = \"~[hex 64]\"\n"),
        ("go.sum", "github.com/a/b v1.0.0 h1:~[base64 43]=\n"),
        ("uv.lock", r#"sdist = { url = "https://h/a.tar.gz", hash = "sha256:~[hex 64]", size = 1 }"#),
        ("flake.lock", r#""narHash": "sha256-~[base64 43]=", "rev": "~[hex 40]""#),
        ("src/id.rs", r#"const RUN: &str = "~[hex 8]-~[hex 4]-~[hex 4]-~[hex 4]-~[hex 12]";"#),
        ("tests/git.rs", r#"let head = CommitSha::parse("~[hex 40]")?; // see commit ~[hex 40]"#),
        ("Dockerfile", "FROM rust:1.94@sha256:~[hex 64]\nENV KEY_FILE=/run/secrets/key\n"),
        (
            ".github/workflows/ci.yml",
            "- uses: actions/checkout@~[hex 40]\n  with:\n    token: ${{ secrets.GITHUB_TOKEN }}\n",
        ),
        ("deploy.yaml", "env:\n- name: API_KEY\n  valueFrom: {secretKeyRef: {name: api, key: token}}\n"),
        (
            ".env.example",
            "API_KEY=your-api-key-here\nSECRET=changeme\nPASSWORD=\nTOKEN=xxxxxxxxxxxxxxxxxxxxxxxx\n",
        ),
        ("config.py", "password = os.environ['PASSWORD']\napi_key = settings.API_KEY\ntoken = get_token()\n"),
        (
            "src/auth.rs",
            "let token = self.tokens.fetch(&key).await?;\nlet secret = SecretString::from(text);\n",
        ),
        (
            "src/app.tsx",
            "<Row key={item.id} accessKey=\"s\" tokenType=\"Bearer\" authUrl=\"https://example.com/oauth2/token\" />",
        ),
        (
            "app.min.js",
            r#"!function(e,t){var n={key:"KeyboardEvent",token:e.token,apiKey:t.k||"",auth:function(){return 1}};n.secret=t[0x1f]}(window,{});"#,
        ),
        ("style.css", ".key{background:url(data:image/png;base64,~[base64 400]=)}"),
        ("README.md", "![logo](data:image/svg+xml;base64,~[base64 600]) and `Authorization: Bearer <token>`"),
        (
            "docs/api.md",
            "curl -H \"Authorization: Bearer $TOKEN\" https://api.example.com/v1/keys\ncurl -u user:password https://h/",
        ),
        ("openapi.yaml", "securitySchemes:\n  api_key: {type: apiKey, name: X-API-Key, in: header}\n"),
        ("schema.sql", "create table tokens (key text primary key, secret_hash bytea not null);"),
        ("main.tf", "resource \"aws_kms_key\" \"key\" { description = \"the key\" }\nsecret = var.secret\n"),
        (
            "notes.md",
            "The key idea: authorise once. Access: read-only. Token: see above. Password: ask Mona.",
        ),
        (
            "i18n.json",
            r#"{"password.label": "Password", "token.help": "Paste the token here", "auth.title": "Sign in"}"#,
        ),
        ("aws.md", "aws_access_key_id = AKIAIOSFODNN7EXAMPLE"),
        ("x.pem", "-----BEGIN CERTIFICATE-----\n~[base64 64]\n-----END CERTIFICATE-----\n"),
        ("key.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI~[base64 43] mona@example.org\n"),
        ("image.svg", "<svg><path id=\"key\" d=\"M10.5 3.2C4.1 9.8,2 1z\"/></svg>"),
    ];
    for seed in 1..=20 {
        for (path, text) in table {
            let text = filled(text, seed);
            let found = super::super::SuspectSearch::new().suspects(text.as_bytes(), Some(path));
            assert_eq!(found, [], "{path}: {text}");
        }
    }
}

/// A keyword far away belongs to another piece; a secret on the edge of one is found whole.
#[test]
fn long_files_are_read_in_pieces() {
    let token = filled("dop_v1_~[hex 64]", 7);
    for before in (PIECE_END - 100..PIECE_END + 10).step_by(7) {
        let content = format!("{} {token} {}", "x".repeat(before), "y ".repeat(PIECE));
        let found = leaks(content.as_bytes(), Some("one-line.txt"), &mut usize::MAX.clone());
        assert_eq!(found, [Leak { rule: "digitalocean-pat", range: before + 1..before + 1 + token.len() }]);
    }
}
