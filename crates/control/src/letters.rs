//! Dead letters in files, the newest first: the contents of a page. Files are read from their end, at most 8 MiB for a request.
//!
//! A place is the file's inode number and an offset, so that it stays the same when files are renamed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Grant, may_read_messages};
use super::problem::{Asked, Named, Problem};
use super::{Shown, View};
use forebay_base::files;

/// Letters of a page, by default and at most.
const LIMIT: usize = 50;
const LIMIT_MAX: usize = 1_000;
/// Bytes read from files for one page, at most.
const READ_BYTES_MAX: u64 = 8 << 20;
/// Bytes read at a time.
const PIECE: u64 = 64 << 10;
/// Longest line that is shown uncut.
const LINE_BYTES_MAX: u64 = 64 << 10;

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new().routes(routes!(letters))
}

/// A page of the dead letters of a sink.
#[derive(Debug, Serialize, ToSchema)]
struct Letters {
    /// Kafka topic of the dead letters, which Kafka's own tools read.
    topic: Option<String>,
    /// File of the letters below; null: there is none.
    file: Option<String>,
    /// Letters as the lines of the file have them, the newest first: docs/DEAD_LETTERS.md. A line longer than 64 KiB is `{"bytes": N}`.
    #[schema(value_type = Vec<Object>)]
    letters: Vec<Value>,
    /// The `before` of the next request, for older letters; null: there are none. A page may be shorter than its limit, or empty.
    next: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LettersQuery {
    /// The most entries to return.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<usize>,
    /// `next` of the previous page.
    before: Option<String>,
}

/// Dead letters of a sink in files, the newest first, with their contents: this needs the role write.
#[utoipa::path(get, path = "/api/v1/dead-letters/{name}", tag = "sinks", security(("token" = [])),
    params(("name" = String, Path, description = "The sink's name"), LettersQuery), responses(
    (status = 200, body = Letters),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "The token has the role read"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "The file cannot be read")))]
async fn letters(
    State(view): State<Arc<View>>,
    Extension(grant): Extension<Grant>,
    Named(name): Named,
    Asked(LettersQuery { limit, before }): Asked<LettersQuery>,
) -> Result<Json<Letters>, Problem> {
    may_read_messages(&view, &grant)?;
    let sink = view.sink_named(&name).ok_or_else(|| view.no_sink(&name))?;
    let limit = limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit must be 1 to {LIMIT_MAX}")));
    }
    let from = before.map(|before| place(&before)).transpose()?;
    let Some(dead) = &view.described.sinks[sink].dead_letters else {
        return Err(Problem::not_found(format!("the sink {name:?} has no dead letters")));
    };
    let (topic, file) = (dead.topic.clone(), dead.file.clone());
    let Some(path) = file.clone() else { return Ok(Json(Letters { topic, file, letters: Vec::new(), next: None })) };
    let read = tokio::task::spawn_blocking(move || {
        // The sink of a line that is too long is unknown.
        let is_of = |line: &Value| line.get("sink").map_or_else(|| line.get("bytes").is_some(), |of| *of == *name);
        newest(Path::new(&path), from, limit, &is_of)
    });
    let page = read.await.map_err(|_| Problem::unavailable("the service is stopping"))?;
    let (letters, next) = page.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Problem::new(StatusCode::NOT_FOUND, "the file with these dead letters has been deleted")
        }
        _ => Problem::unavailable(format!("the file cannot be read: {error}")),
    })?;
    Ok(Json(Letters { topic, file, letters, next: next.map(|(inode, end)| format!("{inode}-{end}")) }))
}

/// Inode number of a file, and an offset: the letters before the offset come next.
type At = (u64, u64);

fn place(text: &str) -> Result<At, Problem> {
    let parts = text.split_once('-').and_then(|(inode, end)| Some((inode.parse().ok()?, end.parse().ok()?)));
    parts.ok_or_else(|| Problem::bad_request("before must be `next` of the page before"))
}

/// Opens the file and its predecessors (`PATH.1` and so on), the newest first.
fn all(path: &Path) -> io::Result<Vec<File>> {
    let older = (1..).map(|number| PathBuf::from(format!("{}.{number}", path.display())));
    let (mut found, mut is_newest) = (Vec::new(), true);
    for path in std::iter::once(path.to_owned()).chain(older) {
        match files::open(&path, OpenOptions::new().read(true)) {
            Ok(file) => found.push(file),
            // The newest file is created with its first letter.
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_newest => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
        is_newest = false;
    }
    Ok(found)
}

/// Returns letters before a place, and the place to continue from.
fn newest(
    path: &Path,
    from: Option<At>,
    limit: usize,
    is_wanted: &dyn Fn(&Value) -> bool,
) -> io::Result<(Vec<Value>, Option<At>)> {
    let known = |file: File| file.metadata().map(|of| (file, of.ino(), of.size()));
    let mut files: Vec<_> = all(path)?.into_iter().map(known).collect::<io::Result<_>>()?;
    if let Some((inode, end)) = from {
        let first = files.iter().position(|(_, of, _)| *of == inode).ok_or(io::ErrorKind::NotFound)?;
        files.drain(..first);
        files[0].2 = end.min(files[0].2);
    }
    let (mut found, mut left) = (Vec::new(), READ_BYTES_MAX);
    let mut files = files.into_iter().peekable();
    while let Some((mut file, inode, end)) = files.next() {
        let mut lines = Backwards { file: &mut file, end };
        while lines.end > 0 {
            if found.len() == limit || left == 0 {
                return Ok((found, Some((inode, lines.end))));
            }
            let line = lines.next(&mut left)?;
            if is_wanted(&line) {
                found.push(line);
            }
        }
        if let Some((_, inode, end)) = files.peek().filter(|_| found.len() == limit) {
            return Ok((found, Some((*inode, *end))));
        }
    }
    Ok((found, None))
}

/// Reads the lines of a file backwards from a place.
struct Backwards<'a> {
    file: &'a mut File,
    /// End of the next line to read.
    end: u64,
}

impl Backwards<'_> {
    /// Returns the line that ends at the place, and moves the place to its beginning. `left`: bytes that may still be read.
    fn next(&mut self, left: &mut u64) -> io::Result<Value> {
        let mut line = Vec::new();
        let mut begin = self.end;
        loop {
            let size = PIECE.min(begin);
            let mut piece = vec![0; usize::try_from(size).unwrap_or_default()];
            self.file.seek(SeekFrom::Start(begin - size))?;
            self.file.read_exact(&mut piece)?;
            // The newline at the end of this line does not begin another one.
            let upto = piece.len() - usize::from(begin == self.end);
            let start = piece[..upto].iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
            let taken = piece.len() - start.unwrap_or(0);
            *left = left.saturating_sub(taken as u64);
            begin -= taken as u64;
            if self.end - begin <= LINE_BYTES_MAX {
                piece.drain(..piece.len() - taken);
                piece.append(&mut line);
                line = piece;
            }
            if start.is_some() || begin == 0 {
                break;
            }
        }
        let bytes = self.end - begin;
        self.end = begin;
        let is_whole = bytes <= LINE_BYTES_MAX;
        let letter = is_whole.then(|| serde_json::from_slice(&line).unwrap_or(Value::Null));
        Ok(letter.unwrap_or_else(|| serde_json::json!({ "bytes": bytes })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pages(path: &Path, limit: usize, is_wanted: &dyn Fn(&Value) -> bool) -> Vec<Vec<Value>> {
        let (mut pages, mut from) = (Vec::new(), None);
        loop {
            let (page, next) = newest(path, from, limit, is_wanted).expect("a page");
            pages.push(page);
            from = Some(match next {
                Some(next) => next,
                None => return pages,
            });
        }
    }

    fn lines(of: impl IntoIterator<Item = u64>) -> String {
        of.into_iter().map(|n| format!("{}\n", json!({ "sink": if n % 2 == 0 { "a" } else { "b" }, "n": n }))).collect()
    }

    fn numbers(pages: Vec<Vec<Value>>) -> Vec<u64> {
        pages.into_iter().flatten().filter_map(|line| line["n"].as_u64()).collect()
    }

    #[test]
    fn letters_come_newest_first_through_all_files() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("letters");
        assert!(newest(&path, None, 5, &|_| true).is_ok_and(|page| page == (Vec::new(), None)), "there is none yet");
        std::fs::write(dir.path().join("letters.2"), lines(0..7)).expect("written");
        std::fs::write(dir.path().join("letters.1"), lines(7..9)).expect("written");
        std::fs::write(&path, lines(9..2_000)).expect("written");
        let down = |step| (0..2_000).rev().step_by(step).collect::<Vec<u64>>();
        for limit in [1, 7, 1_000] {
            assert_eq!(numbers(pages(&path, limit, &|_| true)), down(1), "{limit}");
        }
        assert_eq!(numbers(pages(&path, 100, &|line| line["sink"] == "b")), down(2));
        assert_eq!(pages(&path, 2_000, &|_| true).len(), 1);

        // A page continues where the previous one ended, whatever the file is called by then.
        let (_, next) = newest(&path, None, 3, &|_| true).expect("a page");
        std::fs::rename(dir.path().join("letters.2"), dir.path().join("letters.3")).expect("renamed");
        std::fs::rename(dir.path().join("letters.1"), dir.path().join("letters.2")).expect("renamed");
        std::fs::rename(&path, dir.path().join("letters.1")).expect("renamed");
        std::fs::write(&path, lines(3_000..3_001)).expect("written");
        let (page, _) = newest(&path, next, 2, &|_| true).expect("a page");
        assert_eq!(numbers(vec![page]), [1_996, 1_995]);
        std::fs::remove_file(dir.path().join("letters.1")).expect("removed");
        assert!(newest(&path, next, 2, &|_| true).is_err_and(|error| error.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn long_lines_and_damaged_ones_are_passed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("letters");
        let long = json!({ "n": 2, "value": "x".repeat(300 << 10) }).to_string();
        let rest = json!({ "n": 4, "value": "" }).to_string().len() + 1;
        let fits = json!({ "n": 4, "value": "x".repeat((64 << 10) - rest) }).to_string();
        std::fs::write(&path, format!("{{\"n\":1}}\n{long}\nno json\n{fits}\n{{\"n\":5}}")).expect("written");
        let found = pages(&path, 2, &|_| true).concat();
        assert_eq!(
            found.iter().map(|line| line["n"].as_u64()).collect::<Vec<_>>(),
            [Some(5), Some(4), None, None, Some(1)]
        );
        assert_eq!(found[3], json!({ "bytes": long.len() + 1 }));
        assert_eq!(fits.len() + 1, 64 << 10, "the longest that is shown");
    }

    #[test]
    fn one_request_reads_no_more_than_it_may() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("letters");
        std::fs::write(&path, lines(0..600_000)).expect("written");
        let (page, next) = newest(&path, None, 10, &|line| line["n"] == 3).expect("a page");
        assert!(page.is_empty() && next.is_some());
        assert_eq!(numbers(pages(&path, 10, &|line| line["n"] == 3)), [3]);
    }
}
