//! The reference in another process: the same guest on wazero, which takes turns with the other contenders.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::guests::{GO_HELLO, Guest, path, root, stdin};
use crate::measure::{Contender, Row, Samples};

/// The program of `benches/wazero`, ready for its turns. Dropping this ends it.
#[derive(Debug)]
pub struct Wazero {
    process: Child,
    turns: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    version: String,
}

impl Wazero {
    /// Starts it with [`GO_HELLO`], whose answers must contain the same text as those of `guest`. `Err` says what is
    /// missing.
    pub fn start(guest: &Guest) -> Result<Self, String> {
        let program = program();
        let failed = |file: &Path, error: io::Error| {
            let file = file.display();
            format!("{file}: {error}; `make bench` and `make bench-quick` build benches/wazero")
        };
        let request = program.with_file_name("request.json");
        fs::write(&request, stdin()).map_err(|error| failed(&request, error))?;
        let mut process = Command::new(&program)
            .args(["-turns", "-contains", guest.contains()])
            .arg(path(GO_HELLO))
            .arg(request)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(&program, error))?;
        let turns = process.stdin.take();
        let stdout = process.stdout.take().ok_or("no pipe to benches/wazero")?;
        let mut this = Self {
            process,
            turns,
            answers: BufReader::new(stdout),
            version: String::new(),
        };
        this.version = this.read()?["version"].as_str().unwrap_or("?").to_string();
        Ok(this)
    }

    /// The version of wazero.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its row.
    ///
    /// # Panics
    /// In the contender's turn, if an answer was wrong. The program has then printed why, and ended.
    #[must_use]
    pub fn contender(mut self, row: Row) -> Contender {
        Contender::elsewhere(row, move |length, samples| {
            self.turn(length, samples)
                .unwrap_or_else(|error| panic!("benches/wazero: {error}"));
        })
    }

    fn turn(&mut self, length: Duration, samples: &mut Samples) -> Result<(), String> {
        let turns = self.turns.as_mut().ok_or("the program's stdin is closed")?;
        writeln!(turns, "{}", length.as_nanos()).map_err(|error| error.to_string())?;
        let turn = self.read()?;
        let nanos: Option<Vec<u64>> = turn["nanos"]
            .as_array()
            .and_then(|list| list.iter().map(Value::as_u64).collect());
        let cpu = turn["cpu_ns"].as_u64();
        let (Some(nanos), Some(cpu)) = (nanos, cpu) else {
            return Err(format!("unexpected answer of the program: {turn}"));
        };
        samples.add(&nanos, Duration::from_nanos(cpu));
        Ok(())
    }

    fn read(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .map_err(|error| error.to_string())?;
        serde_json::from_str(&line).map_err(|error| format!("the program wrote {line:?}: {error}"))
    }
}

impl Drop for Wazero {
    fn drop(&mut self) {
        // It ends at the end of its stdin.
        self.turns = None;
        let _ = self.process.wait();
    }
}

fn program() -> PathBuf {
    root().join("target/bench/wazero")
}
