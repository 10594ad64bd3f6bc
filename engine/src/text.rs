//! Text that came from somewhere else, as a terminal may show it.
//!
//! Remarks, names and reasons of peers end up on terminals and in logs, where a character can do more than be seen: move the cursor, hide
//! a line, write one that nobody said. Whatever is written by others passes through here before it is shown.

use serde::{Deserialize, Deserializer};

/// Longer texts are cut [characters].
pub const SHOWN_MAX: usize = 200;

/// The text on one line, in characters that only stand there: what would not be seen, or would do something, is escaped, and what is
/// longer than [`SHOWN_MAX`] characters then ends in `…`. Shown twice it is the same.
#[must_use]
pub fn harmless(text: &str) -> String {
    let (mut shown, mut count) = (String::new(), 0);
    for c in text.chars() {
        let one = match c {
            '\'' | '"' | '\\' => c.to_string(),
            _ => c.escape_debug().to_string(),
        };
        count += one.chars().count();
        if count > SHOWN_MAX {
            shown.push('…');
            break;
        }
        shown.push_str(&one);
    }
    shown
}

/// Reads a text that is only ever shown; for `#[serde(deserialize_with = …)]`.
///
/// # Errors
/// If it is no text.
pub fn read_harmless<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    String::deserialize(input).map(|text| harmless(&text))
}

/// The same of a list of texts.
///
/// # Errors
/// If it is no list of texts.
pub fn read_all_harmless<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    Ok(Vec::<String>::deserialize(input)?.iter().map(|text| harmless(text)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_commands_a_terminal_is_only_seen() {
        let nasty = "a\u{1b}[2Jb\r\nc\u{7}\u{9b}1m\u{202e}d\u{200b}\0\u{85}\u{7f}";
        let shown = harmless(nasty);
        assert_eq!(shown, "a\\u{1b}[2Jb\\r\\nc\\u{7}\\u{9b}1m\\u{202e}d\\u{200b}\\0\\u{85}\\u{7f}");
        assert!(!shown.contains(char::is_control));
    }

    #[test]
    fn what_people_write_stays_as_it_is() {
        let plain = "node 3 — “Jürgen's” C:\\disk, 木星 \"x\" is 5·10⁻³";
        assert_eq!(harmless(plain), plain);
        assert_eq!(harmless(&harmless("\u{1b}\\")), harmless("\u{1b}\\"), "shown twice it is the same");
    }

    #[test]
    fn a_text_without_end_is_cut() {
        let shown = harmless(&"\0".repeat(1 << 20));
        assert_eq!(shown.chars().count(), SHOWN_MAX + 1);
        assert!(shown.ends_with('…'));
        for length in SHOWN_MAX - 9..SHOWN_MAX + 9 {
            let text = "a".repeat(length) + "\u{202e}\u{1b}bc";
            let shown = harmless(&text);
            assert_eq!(harmless(&shown), shown, "{length}");
        }
    }
}
