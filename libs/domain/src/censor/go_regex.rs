//! Expressions written for Go's `regexp`, as the `regex` crate reads them: the same language but
//! for signs that Go takes for themselves and this crate does not.

/// The expression with those signs escaped: a brace that begins no repetition, and inside of a
/// class an opening bracket and the doubled signs that are operators here.
pub(super) fn for_this_crate(go: &str) -> String {
    let mut out = String::with_capacity(go.len() + 8);
    let mut rest = go;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        match c {
            '\\' => {
                let escaped = after.chars().next().map_or(0, char::len_utf8);
                out.push(c);
                out.push_str(&after[..escaped]);
                rest = &after[escaped..];
                continue;
            }
            '[' if in_class && !after.starts_with(':') => out.push_str("\\["),
            '[' if in_class => out.push(c),
            '[' => {
                in_class = true;
                // A closing bracket that comes first stands for itself.
                let negated = after.starts_with('^');
                out.push_str(if negated { "[^" } else { "[" });
                rest = if negated { &after[1..] } else { after };
                if let Some(after_bracket) = rest.strip_prefix(']') {
                    out.push_str("\\]");
                    rest = after_bracket;
                }
                continue;
            }
            // The end of `[:alpha:]` is none of the class around it.
            ']' if in_class
                && out.ends_with(':')
                && out.rfind("[:").is_some_and(|at| !out[at..].contains(']')) =>
            {
                out.push(c);
            }
            ']' => {
                in_class = false;
                out.push(c);
            }
            '&' | '~' | '-' if in_class && after.starts_with(c) => out.extend(['\\', c]),
            '{' if !in_class && !is_repetition(after) => out.push_str("\\{"),
            _ => out.push(c),
        }
        rest = after;
    }
    out
}

/// True for what follows the brace of `{2}`, `{2,}` and `{2,3}`.
fn is_repetition(after_brace: &str) -> bool {
    let Some((inside, _)) = after_brace.split_once('}') else { return false };
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match inside.split_once(',') {
        None => number(inside),
        Some((least, most)) => number(least) && (most.is_empty() || number(most)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_takes_for_itself_is_escaped() {
        for (go, here) in [
            (r"a{2}b{2,}c{2,3}", r"a{2}b{2,}c{2,3}"),
            (r"^\${(?:[A-Z_]+)}$", r"^\$\{(?:[A-Z_]+)}$"),
            (r"^\$(?:\d+|{\d+})$", r"^\$(?:\d+|\{\d+})$"),
            (r"\$?{{[^}]+}}", r"\$?\{\{[^}]+}}"),
            (r"[^]]+]", r"[^\]]+]"),
            (r"[a[]b[{2]", r"[a\[]b[{2]"),
            (r"[[:alpha:]-][&&--~~]", r"[[:alpha:]-][\&&\--\~~]"),
            (r"\[\{\\{", r"\[\{\\\{"),
            (r"{,2}{", r"\{,2}\{"),
        ] {
            assert_eq!(for_this_crate(go), here, "{go}");
            regex::Regex::new(here).expect(here);
        }
    }
}
