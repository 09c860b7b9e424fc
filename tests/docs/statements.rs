//! The lists of statements, `statements/mqtt5.txt` and `statements/mqtt311.txt`.

use super::read;

/// Of which standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    V5,
    V311,
}

impl Of {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::V5 => "5.0",
            Self::V311 => "3.1.1",
        }
    }
}

/// Which side a statement binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Server,
    Both,
    Client,
    /// It does not apply here.
    Neither,
}

impl Who {
    fn from_letter(letter: &str) -> Option<Self> {
        Some(match letter {
            "S" => Self::Server,
            "B" => Self::Both,
            "C" => Self::Client,
            "-" => Self::Neither,
            _ => return None,
        })
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "S",
            Self::Both => "B",
            Self::Client => "C",
            Self::Neither => "-",
        }
    }
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) of: Of,
    /// As in `3.1.2-24`.
    pub(super) number: String,
    pub(super) who: Who,
    /// In few words of our own.
    pub(super) asked: String,
    /// Of 3.1.1: the number of the same statement in 5.0.
    pub(super) same: Option<String>,
    /// Of a client: what happens if it does otherwise. Of what does not apply: why. Else: how Forebay deviates.
    pub(super) more: String,
}

impl Statement {
    /// Whether code and tests have to show it: what binds a server, and what a client is closed or refused for.
    pub(super) fn is_shown(&self) -> bool {
        match self.who {
            Who::Server | Who::Both => true,
            Who::Client => self.more.starts_with("closed") || self.more.starts_with("refused"),
            Who::Neither => false,
        }
    }

    pub(super) fn deviates(&self) -> bool {
        matches!(self.who, Who::Server | Who::Both) && !self.more.is_empty()
    }

    /// As a tag has it.
    pub(super) fn name(&self) -> String {
        match self.of {
            Of::V5 => format!("[MQTT-{}]", self.number),
            Of::V311 => format!("[3.1.1 MQTT-{}]", self.number),
        }
    }

    /// `3.1` of `3.1.2-24`.
    pub(super) fn section(&self) -> &str {
        let second = self.number.match_indices(['.', '-']).nth(1).map_or(self.number.len(), |(at, _)| at);
        &self.number[..second]
    }

    /// The title of its section; the same in both standards but for chapter 2.
    pub(super) fn title(&self) -> &'static str {
        match self.section() {
            "1.5" => "Data",
            "2.1" => "Fixed header",
            "2.2" if self.of == Of::V311 => "Fixed header",
            "2.2" | "2.3" => "Variable header",
            "3.1" => "CONNECT",
            "3.2" => "CONNACK",
            "3.3" => "PUBLISH",
            "3.4" => "PUBACK",
            "3.5" => "PUBREC",
            "3.6" => "PUBREL",
            "3.7" => "PUBCOMP",
            "3.8" => "SUBSCRIBE",
            "3.9" => "SUBACK",
            "3.10" => "UNSUBSCRIBE",
            "3.11" => "UNSUBACK",
            "3.12" => "PINGREQ",
            "3.14" => "DISCONNECT",
            "3.15" => "AUTH",
            "4.1" => "Session state",
            "4.2" => "Network connections",
            "4.3" => "Quality of service",
            "4.4" => "Messages sent again",
            "4.5" => "Messages received",
            "4.6" => "Order",
            "4.7" => "Topics and filters",
            "4.8" if self.of == Of::V311 => "Errors",
            "4.8" => "Subscriptions",
            "4.9" => "Flow control",
            "4.12" => "Enhanced authentication",
            "4.13" => "Errors",
            "6.0" => "WebSocket",
            "7.0" | "7.1" => "Conformance",
            _ => "",
        }
    }
}

fn list(of: Of, file: &str) -> Vec<Statement> {
    let text = read(&format!("tests/docs/statements/{file}"));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let statement = |line: &str| {
        let mut cells = line.split('\t').map(str::to_owned);
        let mut cell = || cells.next().unwrap_or_default();
        let (number, who, asked) = (cell(), cell(), cell());
        let same = if of == Of::V311 { Some(cell()).filter(|same| same != "-") } else { None };
        let who = Who::from_letter(&who).unwrap_or_else(|| panic!("{line}: which side it binds"));
        let statement = Statement { of, number, who, asked, same, more: cell() };
        assert!(cells.next().is_none(), "{line}: too many cells");
        statement
    };
    lines.map(statement).collect()
}

/// Those of 5.0, then those of 3.1.1, each in the order of their numbers.
pub(super) fn all() -> Vec<Statement> {
    [list(Of::V5, "mqtt5.txt"), list(Of::V311, "mqtt311.txt")].concat()
}
