//! Every command of the documents names what exists: subcommands and options of the program, scripts and their
//! subcommands, tests. `running.rs` runs those that can be run.

use super::{documents, fenced, for_operators, quoted, read, root};

/// Whether the program's own parser takes a command line of a document. Placeholders stand for values.
fn parses(line: &str) -> Result<(), String> {
    let line = line.split([';', '|', '>', '&']).next().unwrap_or_default().replace(['[', ']'], "");
    let words: Vec<&str> = line.split_whitespace().skip_while(|word| !word.ends_with("forebay")).collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !["...", "\\", "…"].contains(word)).collect();
    match forebay::cli::parse_from(words) {
        Ok(_) => Ok(()),
        Err(error) if error.exit_code() == 0 => Ok(()),
        Err(error) => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

#[test]
fn commands_that_are_named_are_the_programs() {
    let mut wrong = Vec::new();
    let mut tried = 0;
    for (path, text) in for_operators() {
        let inline = quoted(&text).map(|(_, quoted)| quoted.to_owned()).filter(|quoted| quoted.starts_with("forebay "));
        let blocks = fenced(&text).into_iter().filter(|(language, _)| language.is_empty());
        let lines: Vec<String> =
            blocks.flat_map(|(_, block)| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        let program = |line: &String| line.starts_with("forebay ") || line.starts_with("target/release/forebay ");
        for line in inline.chain(lines.into_iter().filter(program)) {
            // A table names placeholders in capitals, which are values like any other.
            let line = line.replace("completions SHELL", "completions bash").replace("COMMAND", "spool");
            tried += 1;
            // A sentence may name a command without its arguments.
            if let Err(why) = parses(&line)
                && !why.contains("required arguments were not provided")
            {
                wrong.push(format!("{path}: {line}: {why}"));
            }
        }
    }
    assert!(tried > 20, "commands were not found");
    assert!(wrong.is_empty(), "commands that the program refuses:\n{}", wrong.join("\n"));
}

/// What each script's help prints, as its text says it: scripts have their help in themselves.
fn script(name: &str) -> Option<String> {
    std::fs::read_to_string(root().join("scripts").join(name)).ok()
}

/// `scripts/NAME SUBCOMMAND`, `cargo test ...` and `forebay-bench SUBCOMMAND`, wherever a document has them.
#[test]
fn scripts_and_tests_that_are_named_exist() {
    let harness = read("bench/src/main.rs");
    let mut wrong = Vec::new();
    let mut tried = 0;
    for (path, text) in documents().iter().filter(|(path, _)| !path.starts_with(root().join("docs/decisions"))) {
        let inline = quoted(text).map(|(_, quoted)| quoted.to_owned());
        let blocks =
            fenced(text).into_iter().flat_map(|(_, block)| block.lines().map(str::to_owned).collect::<Vec<_>>());
        for line in inline.chain(blocks) {
            for command in line.split([';', '|', '&']).map(str::trim) {
                let words: Vec<&str> = command.split_whitespace().skip_while(|word| word.contains('=')).collect();
                let why = match words.as_slice() {
                    [name, sub, ..] if name.starts_with("scripts/") => {
                        let text = script(&name["scripts/".len()..]);
                        let plain = sub.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
                        let found = text.is_some_and(|text| !plain || text.contains(sub));
                        (!found).then(|| format!("{name} has no {sub}"))
                    }
                    ["forebay-bench", sub, ..] if sub.chars().all(|c| c.is_ascii_lowercase() || c == '-') => {
                        let variant: String =
                            sub.split('-').map(|part| part[..1].to_uppercase() + &part[1..]).collect();
                        (!harness.contains(&format!("    {variant}"))).then(|| format!("forebay-bench has no {sub}"))
                    }
                    ["cargo", "test", rest @ ..] => missing_test(rest),
                    _ => continue,
                };
                tried += 1;
                if let Some(why) = why {
                    wrong.push(format!("{}: {command}: {why}", path.display()));
                }
            }
        }
    }
    assert!(tried > 40, "commands were not found: {tried}");
    assert!(wrong.is_empty(), "commands that do not exist:\n{}", wrong.join("\n"));
}

/// What `cargo test` would not find: a test program, a module, a package.
fn missing_test(words: &[&str]) -> Option<String> {
    let mut words = words.iter();
    let mut source = root().join("src");
    while let Some(word) = words.next() {
        let (kind, there) = match *word {
            "--test" => {
                let name = words.next()?;
                let file = root().join("tests").join(format!("{name}.rs"));
                (*name, *name == "NAME" || file.exists() || root().join("tests").join(name).join("main.rs").exists())
            }
            "-p" => {
                let name = words.next()?;
                let folder = name.trim_start_matches("forebay-");
                let of = [root().join(folder), root().join("crates").join(folder)].into_iter().find(|of| of.exists());
                source = of.as_ref().map_or(source, |of| of.join("src"));
                (*name, of.is_some())
            }
            module if module.ends_with("::") => {
                let below = module.trim_end_matches("::").replace("::", "/");
                let path = source.join(below);
                (module, path.exists() || path.with_extension("rs").exists())
            }
            _ => continue,
        };
        if !there {
            return Some(format!("there is no {kind}"));
        }
    }
    None
}
