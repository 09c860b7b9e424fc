//! Edits: changes of single parts by the API, and the configurations that result from them.

use serde_json::{Map, Value};

use super::{By, Proposal, Reload, Write, mistake, mistakes, several};
use crate::cli::{concise, in_force};
use crate::config::{self, Change, Config, EMBEDDED, Edit, Met, Part, Problem, Problems, Text, To};
use crate::control::ReloadRefused;

impl Reload {
    /// Proposes the result of a change by the API.
    pub(in crate::cli) fn propose_edit(&self, edit: Edit, persist: bool) -> Result<Proposal, ReloadRefused> {
        if edit.part == Part::Listener && !self.args.listen.is_empty() {
            return Err(ReloadRefused::NotNow("the listeners are those of --listen".to_owned()));
        }
        self.refuse_files(&edit)?;
        let shown = in_force::part(&self.config, edit.part, &edit.name);
        let changes = changes(&edit, shown.as_ref());
        let edit = self.concise(edit, shown.as_ref())?;
        let all: Vec<Edit> = self.edits.iter().chain([&edit]).cloned().collect();
        let (edited, met) = self.edited(&self.text, &all)?;
        let is_new = met == Met::New;
        self.refuse_foreign(&edit, is_new)?;
        if let Some(why) = self.beside.contradicts(&changes, &edited) {
            return Err(ReloadRefused::NotNow(why));
        }
        // Earlier changes of the same part that are not in the file yet are included.
        let is_same = |other: &Edit| other.part == edit.part && other.name == edit.name;
        let (own, others): (Vec<Edit>, Vec<Edit>) = self.edits.iter().cloned().partition(is_same);
        let own = vec![own.iter().fold(edit.clone(), Edit::after)];
        if !persist {
            let edits = self.standing(&self.text, &[others, own].concat())?;
            let proposal = self.propose_edited((self.text.clone(), edits), None, &edit)?;
            let proposal = Proposal { is_new, ..proposal };
            if proposal.change.waiting.is_empty() {
                return Ok(proposal);
            }
            let before = Change::between(&self.config, &self.resolve(&self.text, &self.edits)?).waiting;
            let waiting: Vec<_> =
                proposal.change.waiting.iter().filter(|what| !before.contains(what)).cloned().collect();
            if !waiting.is_empty() {
                let what = waiting.join(", ");
                let why = format!("needs a restart: {what}; persist=true writes it to the file for the next start");
                return Err(ReloadRefused::NotNow(why));
            }
            return Ok(proposal);
        }
        let path = self.file()?;
        let file = config::read(Some(&path)).map_err(mistakes)?;
        let implied = edit.implies(&file, &self.beside).map_err(mistake)?;
        if !implied.is_empty() {
            let what = implied.join(" and ");
            let why = format!(
                "persist=true would have to write {what} as well, which is there only while the file names none: write that into the file first"
            );
            return Err(ReloadRefused::NotNow(why));
        }
        let (written, _) = self.edited(&file, &own)?;
        self.refuse_exposure(&self.resolve(&written, &[])?, &self.and_named_in(&file))?;
        if let Some(moved) = self.beside.bindings().moved(&written).first() {
            let why = format!("{moved}: persist=true would change what the variable means; correct its index first");
            return Err(ReloadRefused::NotNow(why));
        }
        // Other changes of the file since it was read wait for a reload.
        let text = if file == self.text { written.clone() } else { self.edited(&self.text, &own)?.0 };
        let others = self.standing(&text, &others)?;
        let write = Write { path, before: file.text, after: written.text };
        Ok(Proposal { is_new, ..self.propose_edited((text, others), Some(write), &edit)? })
    }

    /// Proposes a text with edits, one of which is new. Only new warnings are reported.
    fn propose_edited(
        &self,
        (text, edits): (Text, Vec<Edit>),
        write: Option<Write>,
        edit: &Edit,
    ) -> Result<Proposal, ReloadRefused> {
        let (before, _) = self.edited(&self.text, &self.edits)?;
        let also = edit.pins(&before, &self.beside).map_err(mistake)?;
        let wanted = self.resolve(&text, &edits)?;
        let known = if wanted.warnings.0.is_empty() {
            Problems::default()
        } else {
            self.resolve(&self.text, &self.edits)?.warnings
        };
        let warnings = beyond(&wanted.warnings, &known);
        Ok(Proposal { also, warnings, ..self.proposal(wanted, (text, edits), write, By::Api)? })
    }

    /// The written keys of a part, in the file or by a change of the API. Defaults, and keys that variables of the environment or
    /// options set, are not among them.
    pub(in crate::cli) fn written(&self, part: Part, name: &str) -> Result<Option<Map<String, Value>>, ReloadRefused> {
        let nothing = Edit::nothing(part, name);
        let all: Vec<Edit> = self.edits.iter().chain([&nothing]).cloned().collect();
        let (text, _) = self.edited(&self.text, &all)?;
        let elsewhere = || in_force::part(&self.config, part, name).map(|_| Map::new());
        Ok(nothing.keys_in(&text).or_else(elsewhere).map(|mut keys| {
            keys.remove(part.name_key());
            keys
        }))
    }

    /// The edit without keys that already have their value: a part can be sent back as the API shows it without being written in full.
    fn concise(&self, edit: Edit, shown: Option<&Map<String, Value>>) -> Result<Edit, ReloadRefused> {
        let To::Entry(given) = &edit.to else { return Ok(edit) };
        let (text, _) = self.edited(&self.text, &self.edits)?;
        let Some(standing) = edit.keys_in(&text) else { return Ok(edit) };
        let Some(shown) = shown else { return Ok(edit) };
        let mut keys = concise::keys(given, &standing, shown);
        let with = |keys: &Map<String, Value>| Edit { to: To::Entry(keys.clone()), ..edit.clone() };
        let all: Vec<Edit> = self.edits.iter().cloned().chain([with(&keys)]).collect();
        // The problems are reported for the whole edit.
        let Ok(config) = self.resolve(&self.text, &all) else { return Ok(edit) };
        let now = in_force::part(&config, edit.part, &edit.name).unwrap_or_default();
        // A default may depend on another key that changes.
        let differs = |(key, value): &(&String, &Value)| now.get(*key).is_none_or(|now| !concise::is_same(now, value));
        let lost = given.iter().filter(|(key, _)| !keys.contains_key(*key)).filter(differs);
        let lost: Vec<_> = lost.map(|(key, value)| (key.clone(), value.clone())).collect();
        keys.extend(lost);
        Ok(with(&keys))
    }

    /// The configuration with these keys of a part, which need not exist. `running`: has the address of the embedded log.
    pub(in crate::cli) fn would_be(&self, edit: Edit, running: &Config) -> Result<Config, ReloadRefused> {
        self.refuse_files(&edit)?;
        let To::Keys(keys) = edit.to else { return Err(mistake("only keys can be tried".to_owned())) };
        let (part, name) = (edit.part, edit.name);
        let is_new = {
            let all: Vec<Edit> = self.edits.iter().cloned().chain([Edit::nothing(part, &name)]).collect();
            self.edited(&self.text, &all)?.1 == Met::New
        };
        let to = if is_new && !keys.is_empty() { To::Entry(keys) } else { To::Keys(keys) };
        let edit = Edit { part, name, to };
        let all: Vec<Edit> = self.edits.iter().cloned().chain([edit.clone()]).collect();
        let (edited, _) = self.edited(&self.text, &all)?;
        if let Some(why) = self.beside.contradicts(&edit, &edited) {
            return Err(ReloadRefused::NotNow(why));
        }
        let mut config = self.resolve(&self.text, &all)?;
        self.refuse_exposure(&config, &self.of_machine)?;
        for cluster in config.clusters.iter_mut().filter(|cluster| cluster.name == EMBEDDED) {
            let known = running.clusters.iter().find(|known| known.name == EMBEDDED);
            cluster.bootstrap = known.map_or_else(Vec::new, |known| known.bootstrap.clone());
        }
        Ok(config)
    }

    /// Refuses files that the API may not name, before anything is opened: an error could tell whether a file exists.
    fn refuse_files(&self, edit: &Edit) -> Result<(), ReloadRefused> {
        let refused = config::not_allowed(edit, &self.config, &self.of_machine);
        if refused.is_empty() { Ok(()) } else { Err(several(refused)) }
    }

    /// The edits that change this text, one after the other; the others are in it already.
    pub(super) fn standing(&self, text: &Text, edits: &[Edit]) -> Result<Vec<Edit>, ReloadRefused> {
        let mut text = text.clone();
        let mut standing = Vec::new();
        for edit in edits {
            let (edited, _) = self.edited(&text, std::slice::from_ref(edit))?;
            let untouched = if edit.is_of_default() {
                self.edited(&text, &[Edit::nothing(edit.part, &edit.name)])?.0
            } else {
                text.clone()
            };
            if edited != untouched {
                standing.push(edit.clone());
                text = edited;
            }
        }
        Ok(standing)
    }

    /// Refuses a change of a part that the text does not have; only a cluster can have some keys there and others elsewhere.
    fn refuse_foreign(&self, edit: &Edit, is_new: bool) -> Result<(), ReloadRefused> {
        if !is_new {
            return Ok(());
        }
        let (part, name) = (edit.part, &edit.name);
        let origin = self.beside.origin(part, name);
        match (&edit.to, origin) {
            (To::Entry(_), None) => Ok(()),
            (To::Entry(_), Some(_)) if part == Part::Cluster && name != EMBEDDED => Ok(()),
            (To::Entry(_), Some(origin)) => Err(ReloadRefused::NotNow(origin)),
            (_, Some(origin)) => Err(ReloadRefused::Unknown(origin)),
            (_, None) => {
                Err(ReloadRefused::Unknown(format!("there is no {} {name:?} in the configuration", part.word())))
            }
        }
    }
}

/// The edit with only the keys that it changes.
fn changes(edit: &Edit, shown: Option<&Map<String, Value>>) -> Edit {
    match (&edit.to, shown) {
        (To::Entry(given), Some(shown)) => {
            Edit { to: To::Entry(concise::keys(given, &Map::new(), shown)), ..edit.clone() }
        }
        _ => edit.clone(),
    }
}

/// Warnings that are not in `known`. Their places are not compared: a removed part moves the others.
fn beyond(all: &Problems, known: &Problems) -> Vec<String> {
    let is_digit = |char: char| char.is_ascii_digit();
    let kind = |of: &Problem| (of.key.replace(is_digit, ""), of.what.clone(), of.hint.clone());
    let mut known: Vec<_> = known.0.iter().map(kind).collect();
    let is_new = |of: &&Problem| match known.iter().position(|known| *known == kind(of)) {
        Some(place) => {
            known.swap_remove(place);
            false
        }
        None => true,
    };
    all.0.iter().filter(is_new).map(ToString::to_string).collect()
}
