//! Memory of processes, as the kernel tells it.

use std::fs;

use anyhow::{Context as _, Result};

/// What `/proc/PID/status` says, in MB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Pages in memory, those of the program's file included.
    pub resident: f64,
    /// What the program allocated: the part of it that no file backs.
    pub allocated: f64,
}

impl Memory {
    /// From the text of a `status` file.
    ///
    /// # Errors
    /// A field is missing.
    pub fn parse(status: &str) -> Result<Self> {
        Ok(Self {
            resident: megabytes(status, "VmRSS:")?,
            allocated: megabytes(status, "RssAnon:")?,
        })
    }

    /// Of a process and its children.
    ///
    /// # Errors
    /// The process has ended.
    pub fn of(id: u32) -> Result<Self> {
        let mut sum = Self::parse(&fs::read_to_string(format!("/proc/{id}/status"))?)?;
        for task in fs::read_dir(format!("/proc/{id}/task"))? {
            let children = fs::read_to_string(task?.path().join("children"))?;
            for child in children.split_whitespace() {
                let child = Self::of(child.parse()?)?;
                sum.resident += child.resident;
                sum.allocated += child.allocated;
            }
        }
        Ok(sum)
    }
}

fn megabytes(status: &str, field: &str) -> Result<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes = value.and_then(|rest| rest.trim().strip_suffix(" kB"));
    let kibibytes = kibibytes.with_context(|| format!("no {field} in {status:?}"))?;
    Ok(kibibytes.trim().parse::<f64>()? * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_megabytes() {
        let memory = Memory::parse("VmRSS:\t    1000 kB\nRssAnon:\t     500 kB\n").unwrap();
        assert!((memory.resident - 1.024).abs() < 1e-9 && (memory.allocated - 0.512).abs() < 1e-9);
        assert!(Memory::parse("VmRSS:\t 1 kB\n").is_err());
        assert!(Memory::of(std::process::id()).unwrap().resident > 0.0);
    }
}
