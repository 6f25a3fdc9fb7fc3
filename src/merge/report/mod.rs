//! `report.html`: one self-contained page about a run, for a screen and for paper.
//!
//! Whatever comes from a file or a name is escaped, and every list on the page has a limit: ten thousand shards make
//! a page of the same size as a hundred.

mod best;
mod compared;
mod run;
mod times;

use std::path::Path;

use super::Merged;
use super::outputs::SpeedupRow;

pub use compared::Compared;
pub use run::read_settings;

/// The page.
pub fn html(out: &Path, merged: &Merged, speedup: &SpeedupRow, compared: Option<&Compared>) -> String {
    include_str!("../report.html")
        .replace("{{when}}", &run::when(merged))
        .replace("{{cards}}", &run::cards(merged, speedup))
        .replace("{{missing}}", &run::missing(merged))
        .replace("{{facts}}", &run::facts(out, merged))
        .replace("{{scenes}}", &run::scenes(merged))
        .replace("{{best}}", &best::cards(out, merged))
        .replace("{{stages}}", &times::stages(merged))
        .replace("{{balance}}", &times::balance(merged))
        .replace("{{speedup}}", &compared::section(speedup, compared))
        .replace("{{settings}}", &run::settings(out, merged))
}

/// Text that cannot be read as markup, nor as a place of the template.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '{' => safe.push_str("&#123;"),
            c => safe.push(c),
        }
    }
    safe
}

/// The same, of at most `most` characters.
fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", escape(&text[..end])),
        None => escape(text),
    }
}

/// A count with its thousands apart.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (k, digit) in digits.chars().enumerate() {
        if k > 0 && (digits.len() - k).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Seconds as a person says them.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(escape("<b a='1'>&{{run}}\""), "&lt;b a=&#39;1&#39;&gt;&amp;&#123;&#123;run}}&quot;");
        assert_eq!((shortened("abc", 3), shortened("a<cd", 2)), ("abc".into(), "a&lt;…".into()));
        assert_eq!((grouped(1_234_567), grouped(12)), ("1\u{202f}234\u{202f}567".into(), "12".into()));
    }
}
