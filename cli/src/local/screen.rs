//! Terminal output.

/// Prints the scripted flow, in color on a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    color: bool,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const CYAN: &str = "36";

impl Screen {
    /// With or without color.
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

    /// Prints the title of a step.
    pub fn step(&self, number: u8, title: &str) {
        println!(
            "\n{} {}",
            self.paint(GREEN, &number.to_string()),
            self.paint(BOLD, title)
        );
    }

    /// Prints a title without a number.
    pub fn heading(&self, title: &str) {
        println!("\n{}", self.paint(BOLD, title));
    }

    /// Prints something that was sent.
    pub fn sent(&self, text: &str) {
        println!("  {} {text}", self.paint(CYAN, "→"));
    }

    /// Prints something that was received.
    pub fn got(&self, text: &str) {
        println!("  {} {text}", self.paint(GREEN, "←"));
    }

    /// Prints a note.
    pub fn note(&self, text: &str) {
        println!("    {}", self.paint(DIM, text));
    }

    /// Prints a name and its value in two columns.
    pub fn fact(&self, name: &str, value: &str) {
        println!("  {name:<12} {value}");
    }

    /// Prints a value that is meant to be copied.
    pub fn copied(&self, name: &str, value: &str) {
        self.fact(name, &self.paint(CYAN, value));
    }
}

/// The beginning of a secret.
pub fn shorten(secret: &str) -> String {
    let start: String = secret.chars().take(8).collect();
    format!("{start}…")
}

/// A bar chart with one character per value.
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
