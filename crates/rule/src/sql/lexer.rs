//! Text to tokens.

use super::error::{Error, Place};

/// The kind of a token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A bare name or a keyword.
    Word(String),
    /// A name in double quotes.
    Quoted(String),
    /// Text in single quotes or backticks.
    Text(String),
    /// A whole number without a sign, at most 2^63.
    Int(u64),
    /// A number with a point or an exponent.
    Float(f64),
    /// An operator or a bracket.
    Symbol(&'static str),
    /// The end of the text.
    End,
}

/// A token and its place.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) place: Place,
}

/// Longer symbols first.
const SYMBOLS: [&str; 21] =
    ["!=", "<>", "<=", ">=", "=~", "=>", "..", "=", "<", ">", "+", "-", "*", "/", "(", ")", "[", "]", ",", ".", ";"];

/// The tokens of a text, the last one [`Kind::End`].
pub(super) fn tokens(sql: &str) -> Result<Vec<Token>, Error> {
    let mut lexer = Lexer { sql, at: 0 };
    let mut tokens: Vec<Token> = Vec::new();
    loop {
        lexer.skip_blank()?;
        let start = lexer.at;
        let behind_dot = tokens.last().is_some_and(|token| token.kind == Kind::Symbol("."));
        let kind = lexer.token(behind_dot)?;
        let place = Place::new(start, lexer.at);
        let is_end = kind == Kind::End;
        tokens.push(Token { kind, place });
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'s> {
    sql: &'s str,
    at: usize,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        self.sql.get(self.at..).unwrap_or_default()
    }

    fn here(&self, len: usize) -> Place {
        Place::new(self.at, self.at + len)
    }

    fn skip_blank(&mut self) -> Result<(), Error> {
        loop {
            let rest = self.rest();
            if rest.starts_with("--") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                let end = rest.find("*/").ok_or_else(|| Error::new(self.here(2), "a comment without its `*/`"))?;
                self.at += end + 2;
            } else {
                let blank = rest.len() - rest.trim_start().len();
                if blank == 0 {
                    return Ok(());
                }
                self.at += blank;
            }
        }
    }

    fn token(&mut self, behind_dot: bool) -> Result<Kind, Error> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Kind::End) };
        match first {
            '\'' | '`' => self.quoted(first).map(Kind::Text),
            '"' => self.quoted(first).map(Kind::Quoted),
            // A part of a path may begin with a digit.
            _ if behind_dot && is_in_name(first) => {
                let word = self.word();
                match word.parse::<u64>() {
                    Ok(number) if number <= 1 << 63 && number.to_string() == word => Ok(Kind::Int(number)),
                    _ => Ok(Kind::Word(word.to_owned())),
                }
            }
            '0'..='9' => self.number(),
            'A'..='Z' | 'a'..='z' | '_' => Ok(Kind::Word(self.word().to_owned())),
            _ => match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
                Some(symbol) => {
                    self.at += symbol.len();
                    Ok(Kind::Symbol(symbol))
                }
                None => {
                    let error =
                        Error::new(self.here(first.len_utf8()), format!("`{first}` is no part of the language"));
                    Err(match first {
                        '!' => error.hint("not equal is `!=` or `<>`, negation is `NOT`"),
                        '&' => error.hint("write `AND`"),
                        '|' => error.hint("`OR` for conditions, `+` or `concat` to join texts"),
                        '%' => error.hint("the remainder is `mod`"),
                        '$' => error.hint("a topic or another name with a `$` at its front stands in double quotes"),
                        _ if first.is_alphabetic() => error.hint("a name with such letters stands in double quotes"),
                        _ => error,
                    })
                }
            },
        }
    }

    fn word(&mut self) -> &'s str {
        let rest = self.rest();
        let len = rest.find(|c| !is_in_name(c)).unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).unwrap_or_default()
    }

    /// The text between two quotes; a doubled quote is one quote.
    fn quoted(&mut self, quote: char) -> Result<String, Error> {
        let rest = self.rest();
        let mut text = String::new();
        let mut chars = rest.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            if c != quote {
                text.push(c);
            } else if chars.next_if(|&(_, next)| next == quote).is_some() {
                text.push(quote);
            } else {
                self.at += at + 1;
                return Ok(text);
            }
        }
        Err(Error::new(self.here(1), format!("a text without its closing {quote}")))
    }

    fn number(&mut self) -> Result<Kind, Error> {
        let bytes = self.rest().as_bytes();
        let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
        let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
        let mut len = digits(0);
        let mut is_int = true;
        if byte(len) == b'.' && byte(len + 1).is_ascii_digit() {
            len += 1 + digits(len + 1);
            is_int = false;
        }
        if matches!(byte(len), b'e' | b'E') {
            let sign = usize::from(matches!(byte(len + 1), b'+' | b'-'));
            let exponent = digits(len + 1 + sign);
            if exponent > 0 {
                len += 1 + sign + exponent;
                is_int = false;
            }
        }
        let text = self.rest().get(..len).unwrap_or_default();
        let place = self.here(len);
        self.at += len;
        if self.rest().starts_with(|c: char| is_in_name(c)) {
            return Err(Error::new(place, "a number with a letter after it")
                .hint("a name that begins with a digit stands in double quotes"));
        }
        if !is_int {
            let float: f64 = text.parse().unwrap_or(f64::INFINITY);
            return if float.is_finite() {
                Ok(Kind::Float(float))
            } else {
                Err(Error::new(place, "the number is too large"))
            };
        }
        match text.parse::<u64>() {
            Ok(number) if number <= 1 << 63 => Ok(Kind::Int(number)),
            _ => Err(Error::new(place, "whole numbers have 64 bits: at most 9223372036854775807")
                .hint("write it with a point, or as text")),
        }
    }
}

/// Whether a bare name may have this character.
pub(super) fn is_in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '@' | '~')
}
