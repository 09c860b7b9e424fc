//! Client IDs of bridges: the values of `{…}` in them. The number of an instance is known only when the service starts, the others
//! when the configuration is read.

use std::sync::OnceLock;

use ring::digest::{SHA256, digest};

use super::problem::{Fault, did_you_mean};
use super::resolved::{Config, Service};
use forebay_bridge::digits;

/// The place of the instance's number.
pub(super) const INSTANCE: &str = "{instance}";
/// The variables of the environment.
const VARIABLES: [&str; 3] = ["POD_NAME", "NAMESPACE", "APP_ID"];
/// The names in braces, which are Dapr's.
const NAMES: [&str; 3] = ["podName", "namespace", "appID"];

/// The properties of a process that client IDs of bridges may contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// A random number, constant while the process runs.
    pub seed: u128,
    /// `POD_NAME`, `NAMESPACE` and `APP_ID` of the environment, in this order.
    pub variables: [Option<String>; 3],
}

impl Identity {
    /// The identity of this process.
    #[must_use]
    pub fn of_process() -> Self {
        static SEED: OnceLock<u128> = OnceLock::new();
        let variables = VARIABLES.map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        Self { seed: *SEED.get_or_init(|| fastrand::u128(..)), variables }
    }

    /// Fills in a client ID but for [`INSTANCE`].
    pub(super) fn fill(&self, text: &str, bridge: &str) -> Result<String, Fault> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, name)) = rest.split_once('{') {
            let Some((name, behind)) = name.split_once('}') else { break };
            filled.push_str(before);
            filled.push_str(&self.value(name, bridge)?);
            rest = behind;
        }
        Ok(filled + rest)
    }

    fn value(&self, name: &str, bridge: &str) -> Result<String, Fault> {
        match name {
            "instance" => return Ok(INSTANCE.to_owned()),
            "uuid" => return Ok(self.uuid(bridge)),
            _ => {}
        }
        let Some(place) = NAMES.iter().position(|known| *known == name) else {
            let known = || ["instance", "uuid"].into_iter().chain(NAMES);
            let all = || format!("there are {{{}}}", known().collect::<Vec<_>>().join("}, {"));
            return Err(Fault::new(format!("`{{{name}}}` stands for nothing"))
                .hint(did_you_mean(name, known()).unwrap_or_else(all)));
        };
        self.variables[place].clone().ok_or_else(|| {
            let variable = VARIABLES[place];
            Fault::new(format!("`{{{name}}}` is the environment variable {variable}, which is not set"))
                .hint(format!("set {variable} before the start"))
        })
    }

    /// A UUID for each bridge, constant while the process runs.
    pub(super) fn uuid(&self, bridge: &str) -> String {
        let seed = self.seed.to_be_bytes();
        let digest = digest(&SHA256, &[&seed, bridge.as_bytes()].concat());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.as_ref()[..16]);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}

impl Config {
    /// Gives the service and its bridges the instance's number, and puts it into their client IDs. The program calls this when it
    /// starts: the data directory has its ID by then.
    pub fn name_instances(&mut self) {
        let number = number(&self.service);
        for bridge in &mut self.bridges {
            bridge.client_id = bridge.client_id.replace(INSTANCE, &number);
            bridge.instance.clone_from(&number);
        }
        self.service.instance = number;
    }
}

/// Eight digits that identify the data directory. A directory without an ID, which is made with the spool, is identified by the
/// host and its path.
fn number(service: &Service) -> String {
    let of = match service.data_dir_id {
        Some(id) => id.number().to_be_bytes().to_vec(),
        None => {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let dir = std::path::absolute(&service.data_dir).unwrap_or_else(|_| service.data_dir.clone());
            format!("{}\0{}", host.trim_end(), dir.display()).into_bytes()
        }
    };
    digits(&of)
}

#[cfg(test)]
mod tests {
    use super::super::{DataDirId, Overrides, parse_with};
    use super::*;

    fn identity() -> Identity {
        Identity { seed: 7, variables: [Some("pod-0".to_owned()), None, Some("app".to_owned())] }
    }

    #[test]
    fn names_in_braces_are_filled_in() {
        let of = identity();
        for (text, want) in [
            ("", ""),
            ("plain", "plain"),
            ("a-{podName}-{appID}-b", "a-pod-0-app-b"),
            ("{instance}-x", "{instance}-x"),
            ("a{b", "a{b"),
            ("a}b", "a}b"),
        ] {
            assert_eq!(of.fill(text, "plant").expect(text), want);
        }
        let uuid = of.fill("c-{uuid}", "plant").expect("good");
        assert_eq!(uuid.len(), 38);
        assert_eq!(of.fill("c-{uuid}", "plant").expect("good"), uuid, "a reload changes nothing");
        assert_ne!(of.fill("c-{uuid}", "other").expect("good"), uuid, "two bridges have two");
        assert_ne!(Identity { seed: 8, ..of.clone() }.fill("c-{uuid}", "plant").expect("good"), uuid, "another start");
        let said = |text: &str| {
            let fault = of.fill(text, "plant").expect_err(text);
            format!("{}; {}", fault.what, fault.hint.unwrap_or_default())
        };
        assert_eq!(said("{podname}"), "`{podname}` stands for nothing; did you mean \"podName\"?");
        assert!(said("{x}").contains("there are {instance}, {uuid}, {podName}, {namespace}, {appID}"));
        assert!(said("{namespace}").contains("NAMESPACE, which is not set"));
    }

    #[test]
    fn an_instance_has_its_number() {
        let text = "[bridge.plant]\nurl = 'mqtt://a'\n[bridge.other]\nurl = 'mqtt://a'\nclient_id = 'x'\n";
        let mut config = parse_with(text, "t", &Overrides::default(), 2).expect("good");
        assert_eq!(config.bridges[0].client_id, "forebay-plant-{instance}");
        let named = |config: &mut Config, id: Option<u128>| {
            config.service.data_dir_id = id.map(DataDirId::from_number);
            let mut named = config.clone();
            named.name_instances();
            assert_eq!(named.bridges[1].client_id, "x");
            named.bridges[0].client_id.clone()
        };
        assert_eq!(named(&mut config, Some(1)), "forebay-plant-7c3ccd10", "the same in every version");
        assert_ne!(named(&mut config, Some(1)), named(&mut config, Some(2)));
        let without = named(&mut config, None);
        assert_eq!((without.len(), named(&mut config, None)), ("forebay-plant-01234567".len(), without.clone()));
        config.service.data_dir = "/elsewhere".into();
        assert_ne!(named(&mut config, None), without);
    }
}
