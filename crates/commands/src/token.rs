//! `forebay token`: a new token for the admin API, and the line of `control.tokens_file` that lets it in.

use super::args::TokenArgs;
use forebay_control::Tokens;
use forebay_guard::auth::password::generated;

/// A new token for its user, and its line for the file. The token itself is stored nowhere.
///
/// # Errors
/// The system gives no random numbers, or the name is invalid.
pub fn token(options: &TokenArgs) -> Result<String, String> {
    let (name, role) = (&options.name, &options.role);
    if name.is_empty() || name.contains(char::is_whitespace) || name.starts_with('#') {
        return Err(format!("{name:?}: the name must have no spaces and not begin with #"));
    }
    let token = generated()?;
    let line = Tokens::line(name, role, &token);
    Ok(format!("token: {token}\nline for control.tokens_file:\n{line}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_one_that_the_service_takes() {
        let options = TokenArgs { name: "ops".into(), role: "write".into() };
        let said = token(&options).expect("a token");
        let line = said.lines().last().expect("a line");
        let tokens = Tokens::parse(line).expect("a file of tokens");
        assert_eq!(tokens.slow().count(), 0);
        assert!(line.starts_with("ops write sha256:"), "{line}");
        assert!(token(&TokenArgs { name: "a b".into(), ..options }).is_err());
    }
}
