//! A finished transcript as one object: JSON lines, gzip.

use std::io::{self, BufRead, BufReader, Write};

use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize};

/// A line as it is kept, in a chunk and, with the chunk's number, in the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    /// Of the chunk it came in; absent inside of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sequence: Option<i64>,
    pub(super) stream: String,
    pub(super) text: String,
    pub(super) at_ms: i64,
}

/// All lines in their order.
pub(super) fn write<'l>(lines: impl IntoIterator<Item = &'l Line>) -> io::Result<Vec<u8>> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    for line in lines {
        serde_json::to_writer(&mut out, line)?;
        out.write_all(b"\n")?;
    }
    out.finish()
}

/// The lines of chunks after `sequence`.
pub(super) fn read_after(object: &[u8], sequence: Option<i64>) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for line in BufReader::new(GzDecoder::new(object)).lines() {
        let line: Line = serde_json::from_str(&line?)?;
        if line.sequence > sequence {
            lines.push(line);
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_from_where_a_reader_was() {
        let lines: Vec<Line> = (0..4)
            .map(|n| Line {
                sequence: Some(n / 2),
                stream: "stdout".into(),
                text: format!("line {n}\n\u{1f600}"),
                at_ms: n,
            })
            .collect();
        let object = write(&lines).expect("written");
        assert_eq!(read_after(&object, None).expect("read"), lines);
        assert_eq!(read_after(&object, Some(0)).expect("read"), lines[2..]);
        assert_eq!(read_after(&object, Some(1)).expect("read"), []);
        assert!(read_after(&object[..object.len() / 2], None).is_err(), "half an object is an error");
    }
}
