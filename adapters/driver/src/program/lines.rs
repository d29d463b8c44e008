//! Lines of bounded length from a reader that may send anything.

use std::io::{self, BufRead};

/// One line of input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Without its line break.
    Text(Vec<u8>),
    /// It was over the limit and has been skipped to its end.
    TooLong,
}

/// The longest line, in bytes: the largest message with room for its escapes.
pub(super) const MAX_LINE: usize = 48 * 1024 * 1024;

/// The next line; `None` at the end.
pub(super) fn next(reader: &mut impl BufRead, limit: usize) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let available = match reader.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            return Ok(match (too_long, line.is_empty()) {
                (true, _) => Some(Line::TooLong),
                (false, true) => None,
                (false, false) => Some(Line::Text(line)),
            });
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        too_long |= line.len() + part.len() > limit;
        if too_long {
            line = Vec::new();
        } else {
            line.extend_from_slice(part);
        }
        let used = end.map_or(available.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(Some(if too_long { Line::TooLong } else { Line::Text(line) }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use super::*;

    fn lines(input: &[u8], limit: usize) -> Vec<Line> {
        let mut reader = BufReader::with_capacity(4, Cursor::new(input));
        std::iter::from_fn(|| next(&mut reader, limit).unwrap()).collect()
    }

    #[test]
    fn lines_end_at_line_breaks_and_at_the_end() {
        let expected = ["one", "", "three"].map(|text| Line::Text(text.into()));
        assert_eq!(lines(b"one\n\nthree", 10), expected);
        assert_eq!(lines(b"one\n\nthree\n", 10), expected);
        assert_eq!(lines(b"", 10), []);
    }

    #[test]
    fn a_line_over_the_limit_is_skipped_and_the_next_is_read() {
        let text = |text: &str| Line::Text(text.into());
        assert_eq!(lines(b"0123456789a\nok\n0123456789\n", 10), [Line::TooLong, text("ok"), text("0123456789")]);
        assert_eq!(lines(b"0123456789ab", 10), [Line::TooLong]);
    }
}
