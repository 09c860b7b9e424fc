//! Templates: EMQX's over the output of a rule, as ours.

/// A template in our form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Translated {
    pub(super) text: String,
    /// Variables that are left out, as written: no rule yields them.
    pub(super) left_out: Vec<String>,
}

/// Translates a template. `is_never`: whether no output has a column of this name; EMQX writes nothing in its place.
pub(super) fn translate(text: &str, is_never: impl Fn(&str) -> bool) -> Translated {
    let mut translated = Translated { text: String::new(), left_out: Vec::new() };
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        translated.text.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        let variable = rest.strip_prefix('{').and_then(|body| body.split_once('}')).filter(|(name, _)| is_name(name));
        let Some((name, tail)) = variable else {
            // A `$` that does not begin a variable is text, and is doubled in our templates.
            translated.text.push_str("$$");
            continue;
        };
        rest = tail;
        let path = name.strip_prefix('.').unwrap_or(name);
        let column = path.split(['.', '[']).next().unwrap_or_default();
        if !path.is_empty() && is_never(column) {
            translated.left_out.push(format!("${{{name}}}"));
        } else {
            let path = if path.is_empty() { "." } else { path };
            translated.text.push_str(&format!("${{{path}}}"));
        }
    }
    translated.text.push_str(rest);
    translated
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['$', '{'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_translated() {
        for (theirs, ours) in [
            ("${.clientid}", "${clientid}"),
            ("${.}", "${.}"),
            ("device-${payload.device}/${.topic}", "device-${payload.device}/${topic}"),
            ("$SYS costs $$5", "$$SYS costs $$$$5"),
            ("${pub_props.'User-Property'}", "${pub_props.'User-Property'}"),
            ("${open ${} }", "$${open $${} }"),
            ("", ""),
        ] {
            assert_eq!(translate(theirs, |_| false).text, ours, "{theirs}");
        }
    }

    #[test]
    fn what_no_rule_yields_is_empty() {
        let translated = translate("${.clientid}-${.}-${.x.y}-${.payload.z}", |column| column != "payload");
        assert_eq!(translated.text, "-${.}--${payload.z}");
        assert_eq!(translated.left_out, ["${.clientid}", "${.x.y}"]);
    }
}
