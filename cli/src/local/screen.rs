//! What the person at the terminal sees.

/// Prints the walk. Colours only where they can be seen.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    color: bool,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const CYAN: &str = "36";

impl Screen {
    /// With colours or without.
    pub fn new(color: bool) -> Self {
        Self { color }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// A step begins.
    pub fn step(&self, number: u8, title: &str) {
        println!(
            "\n{} {}",
            self.paint(GREEN, &number.to_string()),
            self.paint(BOLD, title)
        );
    }

    /// Something without a number begins.
    pub fn heading(&self, title: &str) {
        println!("\n{}", self.paint(BOLD, title));
    }

    /// Something went out.
    pub fn sent(&self, text: &str) {
        println!("  {} {text}", self.paint(CYAN, "→"));
    }

    /// Something came back.
    pub fn got(&self, text: &str) {
        println!("  {} {text}", self.paint(GREEN, "←"));
    }

    /// A remark.
    pub fn note(&self, text: &str) {
        println!("    {}", self.paint(DIM, text));
    }

    /// A fact, in two columns.
    pub fn fact(&self, name: &str, value: &str) {
        println!("  {name:<12} {value}");
    }

    /// A fact that is meant to be copied.
    pub fn copied(&self, name: &str, value: &str) {
        self.fact(name, &self.paint(CYAN, value));
    }
}

/// A secret with its middle left out.
pub fn shorten(secret: &str) -> String {
    let start: String = secret.chars().take(8).collect();
    format!("{start}…")
}

/// One character for each value, high where the value is.
pub fn sparkline(values: &[u128]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = values.iter().copied().max().unwrap_or(0).max(1);
    values
        .iter()
        .map(|value| {
            let level = usize::try_from(value * 7 / highest).unwrap_or(7);
            LEVELS[level.min(7)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown_whole() {
        assert_eq!(shorten("mat_0123456789abcdef"), "mat_0123…");
    }

    #[test]
    fn the_line_is_high_where_the_value_is() {
        assert_eq!(sparkline(&[0, 50, 100]), "▁▄█");
        assert_eq!(sparkline(&[0, 0]), "▁▁");
    }
}
