//! The script: what the model "thinks of" next, derived from the request alone.

use serde::Deserialize;
use serde_json::Value;

/// Steps in the order they are played.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// What to do, one after the other.
    pub steps: Vec<Step>,
}

/// One step. [`Step::Shell`] and [`Step::Text`] are answers; the others happen on the way to the
/// answer that follows them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub enum Step {
    /// `{"shell":"cmd"}`: the agent is asked to run a command.
    Shell(String),
    /// `{"text":"done"}`: the model's last words in this turn.
    Text(String),
    /// `{"error":529,"times":2}`: that many requests fail with this HTTP status, then it goes on.
    Error {
        /// HTTP status, 400 to 599.
        status: u16,
        /// How many requests fail, over all sessions; 1 when left out.
        times: u32,
    },
    /// `{"hang":20}`: every request that gets here waits that many seconds first.
    Hang(u64),
}

/// A script nobody can play.
#[derive(Debug, thiserror::Error)]
pub enum InvalidScript {
    /// Not JSON, or a step that is none.
    #[error("the script is not valid: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// A step as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    shell: Option<String>,
    text: Option<String>,
    error: Option<u16>,
    times: Option<u32>,
    hang: Option<u64>,
}

impl TryFrom<Written> for Step {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written { shell: Some(command), text: None, error: None, times: None, hang: None } => Ok(Self::Shell(command)),
            Written { shell: None, text: Some(text), error: None, times: None, hang: None } => Ok(Self::Text(text)),
            Written { shell: None, text: None, error: Some(status @ 400..=599), times, hang: None } => {
                Ok(Self::Error { status, times: times.unwrap_or(1) })
            }
            Written { shell: None, text: None, error: None, times: None, hang: Some(seconds) } => Ok(Self::Hang(seconds)),
            _ => Err("a step is one of {\"shell\":\"cmd\"}, {\"text\":\"final\"}, {\"error\":529,\"times\":2}, {\"hang\":20}".to_owned()),
        }
    }
}

impl Script {
    /// Reads `{"steps":[…]}`.
    ///
    /// # Errors
    /// [`InvalidScript`] with the place where it went wrong.
    pub fn from_json(text: &str) -> Result<Self, InvalidScript> {
        Ok(serde_json::from_str(text)?)
    }

    /// The steps to play for a request: those on the way, each with its number in the script, and
    /// last the answer. The answer is missing when the script is at its end.
    pub(crate) fn for_request(&self, body: &Value) -> impl Iterator<Item = (usize, &Step)> {
        let answered = answered_calls(body);
        let mut answers = 0;
        self.steps
            .iter()
            .enumerate()
            .skip_while(move |(_, step)| {
                // Skips what belongs to earlier answers and those answers themselves.
                let skip = answers < answered;
                answers += usize::from(step.is_answer());
                skip
            })
            .scan(false, |done, (number, step)| {
                if *done {
                    return None;
                }
                *done = step.is_answer();
                Some((number, step))
            })
    }
}

impl Step {
    fn is_answer(&self) -> bool {
        match self {
            Self::Shell(_) | Self::Text(_) => true,
            Self::Error { .. } | Self::Hang(_) => false,
        }
    }
}

/// How many tool calls of this turn were answered. Agents send the whole conversation every time,
/// so a request says by itself how far it got, and a repeated one gets the same answer.
pub(crate) fn answered_calls(body: &Value) -> usize {
    let input = body["input"].as_array().map_or(&[][..], Vec::as_slice);
    let turn = input.iter().rposition(|item| item["role"] == "user").map_or(0, |last| last + 1);
    input[turn..]
        .iter()
        .filter(|item| {
            matches!(item["type"].as_str(), Some("function_call_output" | "custom_tool_call_output"))
        })
        .count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn script() -> Script {
        let text = r#"{"steps":[{"error":529,"times":2},{"shell":"ls"},{"hang":1},{"text":"done"}]}"#;
        Script::from_json(text).expect("a script")
    }

    fn numbers(input: &Value) -> Vec<usize> {
        script().for_request(&json!({"input": input})).map(|(number, _)| number).collect()
    }

    #[test]
    fn the_request_says_which_step_is_next() {
        let user = json!({"type":"message","role":"user","content":[]});
        let output = json!({"type":"function_call_output","call_id":"call_0","output":""});
        assert_eq!(numbers(&json!([user])), [0, 1]);
        assert_eq!(numbers(&json!([user, output])), [2, 3]);
        assert_eq!(numbers(&json!([user, output, output])), [0_usize; 0]);
        // A new turn starts over.
        assert_eq!(numbers(&json!([user, output, user])), [0, 1]);
        assert_eq!(numbers(&json!("a prompt")), [0, 1]);
    }

    #[test]
    fn what_is_no_step_is_refused() {
        for text in [
            r#"{"steps":[{"shel":"ls"}]}"#,
            r#"{"steps":[{"shell":"ls","text":"x"}]}"#,
            r#"{"steps":[{"error":200}]}"#,
            r#"{"steps":[{}]}"#,
            r#"{"turns":[]}"#,
            "[",
        ] {
            assert!(Script::from_json(text).is_err(), "{text}");
        }
    }
}
