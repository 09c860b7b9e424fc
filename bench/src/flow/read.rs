//! Reads Kafka through kcat (librdkafka): a client that is independent of Forebay, and needs no C build here. Lengths before key
//! and value make its output safe for any bytes.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use super::judge::Record;

/// The length of a missing key or value.
const NONE: &str = "-1";

/// The source of the records.
#[derive(Clone, Debug)]
pub(crate) struct Kafka {
    pub(crate) kcat: String,
    /// `host:port`, separated by commas.
    pub(crate) bootstrap: String,
    pub(crate) patience: Duration,
}

impl Kafka {
    /// Offsets after the last records, by partition; empty: there is no such topic. Tries again while leaders are away.
    pub(crate) fn ends(&self, topic: &str) -> anyhow::Result<Vec<i64>> {
        let start = Instant::now();
        loop {
            match self.try_ends(topic) {
                Err(_) if start.elapsed() < self.patience => std::thread::sleep(Duration::from_millis(500)),
                result => return result,
            }
        }
    }

    fn try_ends(&self, topic: &str) -> anyhow::Result<Vec<i64>> {
        let metadata: Value = serde_json::from_slice(&self.output(&["-L", "-J", "-t", topic])?)?;
        let found = metadata["topics"].as_array().and_then(|topics| topics.iter().find(|t| t["topic"] == topic));
        let partitions = found.and_then(|topic| topic["partitions"].as_array()).map_or(0, Vec::len);
        if partitions == 0 {
            return Ok(Vec::new());
        }
        let mut arguments = vec!["-Q".to_owned()];
        for partition in 0..partitions {
            arguments.extend(["-t".to_owned(), format!("{topic}:{partition}:-1")]);
        }
        let text = String::from_utf8(self.output(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?)?;
        let mut ends = vec![-1; partitions];
        for line in text.lines() {
            // NAME [PARTITION] offset N
            let (left, offset) = line.rsplit_once(" offset ").context("kcat -Q")?;
            let partition = left.rsplit_once('[').and_then(|(_, p)| p.strip_suffix(']')).context("kcat -Q")?;
            *ends.get_mut(partition.parse::<usize>()?).context("kcat -Q")? = offset.trim().parse()?;
        }
        if ends.iter().any(|&end| end < 0) { bail!("no end of a partition of {topic}: {text}") } else { Ok(ends) }
    }

    /// [`Self::ends`] of several topics once none has grown for `still`.
    pub(crate) fn settled_ends(&self, topics: &[&str], still: Duration) -> anyhow::Result<Vec<Vec<i64>>> {
        let look = || topics.iter().map(|topic| self.ends(topic)).collect::<anyhow::Result<Vec<_>>>();
        let mut last = look()?;
        let mut since = Instant::now();
        while since.elapsed() < still {
            std::thread::sleep(Duration::from_millis(300).min(still));
            let now = look()?;
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(last)
    }

    /// Calls `each` with every record of a topic, in order within a partition.
    pub(crate) fn records(&self, topic: &str, log: usize, mut each: impl FnMut(&Record<'_>)) -> anyhow::Result<()> {
        let format = "%p %o %K %S %k%s\n";
        let mut child =
            self.command(&["-C", "-q", "-t", topic, "-o", "beginning", "-e", "-f", format]).spawn().context("kcat")?;
        let read = stream(&mut child, log, &mut each);
        if read.is_err() {
            let _ = child.kill();
        }
        let status = child.wait()?;
        read?;
        if status.success() { Ok(()) } else { bail!("kcat, reading {topic}: {status}") }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kcat);
        command.args(["-b", &self.bootstrap]).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    fn output(&self, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
        let done = self.command(arguments).stderr(Stdio::piped()).output();
        let done = done.with_context(|| format!("{} (on Debian: apt-get install kcat)", self.kcat))?;
        if !done.status.success() {
            bail!("kcat {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr));
        }
        Ok(done.stdout)
    }
}

fn stream(child: &mut Child, log: usize, each: &mut impl FnMut(&Record<'_>)) -> anyhow::Result<()> {
    let mut output = child.stdout.take().context("kcat")?;
    let (mut buffer, mut begin, mut end) = (vec![0; 1 << 20], 0, 0);
    loop {
        while let Some((record, length)) = next(&buffer[begin..end], log)? {
            each(&record);
            begin += length;
        }
        buffer.copy_within(begin..end, 0);
        (begin, end) = (0, end - begin);
        if end == buffer.len() {
            buffer.resize(end * 2, 0);
        }
        match output.read(&mut buffer[end..])? {
            0 if end == 0 => return Ok(()),
            0 => bail!("kcat ended within a record"),
            count => end += count,
        }
    }
}

/// The first record of kcat's output and its length; `None`: the record is not whole.
fn next(bytes: &[u8], log: usize) -> anyhow::Result<Option<(Record<'_>, usize)>> {
    let mut words = [""; 4];
    let mut at = 0;
    for word in &mut words {
        let Some(length) = bytes[at..].iter().position(|&byte| byte == b' ') else { return Ok(None) };
        *word = std::str::from_utf8(&bytes[at..at + length])?;
        at += length + 1;
    }
    let [partition, offset, key, value] = words;
    let length = |word: &str| if word == NONE { Ok(0) } else { word.parse::<usize>() };
    let (value_at, end) = (at + length(key)?, at + length(key)? + length(value)?);
    match bytes.get(end) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => bail!("kcat's output does not end where its lengths say"),
    }
    let record = Record {
        log,
        partition: partition.parse()?,
        offset: offset.parse()?,
        key: (key != NONE).then_some(&bytes[at..value_at]),
        value: &bytes[value_at..end],
    };
    Ok(Some((record, end + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_read_back() {
        let text = b"3 17 2 4 k v\n \n\n0 18 -1 -1 \n";
        let (record, length) = next(text, 1).unwrap().unwrap();
        assert_eq!((record.log, record.partition, record.offset), (1, 3, 17));
        assert_eq!((record.key, record.value), (Some(&b"k "[..]), &b"v\n \n"[..]));
        let (record, rest) = next(&text[length..], 0).unwrap().unwrap();
        assert_eq!((record.key, record.value, length + rest), (None, &b""[..], text.len()));
        for cut in 0..length {
            assert!(next(&text[..cut], 1).unwrap().is_none(), "{cut}");
        }
        assert!(next(b"0 1 1 1 abc\n", 0).is_err());
    }
}
