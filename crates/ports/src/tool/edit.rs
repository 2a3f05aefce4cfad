//! Changes to the file, and what is shown of it.

use std::fs::File;
use std::io::{self, Read};

use serde_json::Value as Json;

use super::arguments::Arguments;
use super::command::{Edit, Show};
use super::{Failure, Tool, output};
use crate::certificate::{Certificate, gencert};
use crate::config::{Change, Config, Facts};

/// Perl's tool makes secrets of so many letters and digits, of six bits each, nearly.
const SECRET_LEN: usize = 180;

/// No secret or certificate file has more bytes than this.
const INPUT_MAX: u64 = 1 << 20;

impl Tool {
    pub(super) fn edit(&mut self, edit: Edit, arguments: &mut Arguments) -> Result<(), Failure> {
        let profile = self.profile.clone();
        let change = match edit {
            Edit::Set("parent") | Edit::Delete("parent") if profile.is_none() => {
                return Err(
                    arguments.wrong("say first whose parent: 'aemp profile NAME setparent PARENT'")
                );
            }
            Edit::Set(key) => {
                let value = arguments.value(what(key))?;
                let value = read_value(key, value)?;
                Change::Set { profile, key: key.to_owned(), value }
            }
            Edit::Delete(key) => Change::Delete { profile, key: key.to_owned() },
            Edit::Add(key) => {
                Change::Add { profile, key: key.to_owned(), element: arguments.value(what(key))? }
            }
            Edit::Remove(key) => Change::Remove {
                profile,
                key: key.to_owned(),
                element: arguments.value(what(key))?,
            },
            Edit::MakeSecret => {
                Change::Set { profile, key: "secret".to_owned(), value: new_secret()?.into() }
            }
            Edit::MakeCertificate => {
                let made = gencert().map_err(|error| Failure::died(format!("gencert: {error}")))?;
                Change::Set { profile, key: "cert".to_owned(), value: made.into() }
            }
            Edit::Profile => {
                let name = arguments.text("NAME")?;
                self.profile = Some(name.clone());
                Change::MakeProfile(name)
            }
            Edit::DeleteProfile => {
                let name = arguments.text("NAME")?;
                if self.file()?.profile(&name).is_none() {
                    return Err(no_profile(self, &name));
                }
                // What follows would bring it back.
                self.profile = self.profile.take().filter(|current| *current != name);
                Change::DeleteProfile(name)
            }
        };
        Ok(self.file()?.apply(change)?)
    }

    pub(super) fn show(&mut self, show: Show, arguments: &mut Arguments) -> Result<(), Failure> {
        match show {
            Show::Profile => {
                let name = arguments.text("NAME")?;
                let Some(values) = self.file()?.profile(&name) else {
                    return Err(no_profile(self, &name));
                };
                output::line(&format!("{:#}", Json::Object(values.clone())));
            }
            Show::Config => {
                let rest = arguments.rest();
                let config = Config::from_args(rest)?;
                let shown = config.effective(self.file()?, &Facts::of_machine()?)?;
                output::line(&format!("{shown:#}"));
            }
        }
        Ok(())
    }
}

const fn what(key: &'static str) -> &'static str {
    match key.as_bytes() {
        b"cert" => "FILE",
        b"parent" => "PROFILE",
        b"nodeid" => "ID",
        b"seeds" | b"binds" | b"services" => "a list or an element of it",
        _ => "a value",
    }
}

/// Secrets may come from the input, certificates come from a file.
fn read_value(key: &str, value: Json) -> Result<Json, Failure> {
    match (key, value.as_str()) {
        ("secret", Some("-")) => {
            let text = read("the secret from the input", io::stdin())?;
            Ok(text.trim_end_matches(['\r', '\n']).into())
        }
        ("cert", Some(path)) => {
            let file = File::open(path)
                .map_err(|error| Failure::died(format!("cannot read {path}: {error}")))?;
            let text = read(path, file)?;
            Certificate::from_pem(&text)
                .map_err(|error| Failure::died(format!("{path}: {error}")))?;
            Ok(text.into())
        }
        _ => Ok(value),
    }
}

fn read(name: &str, from: impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    let count = from
        .take(INPUT_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| Failure::died(format!("cannot read {name}: {error}")))?;
    if count as u64 > INPUT_MAX {
        return Err(Failure::died(format!("{name}: more than {INPUT_MAX} bytes")));
    }
    Ok(text)
}

fn new_secret() -> Result<String, Failure> {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut secret = String::with_capacity(SECRET_LEN);
    let mut random = [0; 256];
    while secret.len() < SECRET_LEN {
        getrandom::fill(&mut random)
            .map_err(|error| Failure::died(format!("the system has no random numbers: {error}")))?;
        // Those of 248 and more would make some letters likelier.
        let fair = random.iter().filter(|byte| **byte < 248);
        let letters = fair.map(|byte| char::from(LETTERS[usize::from(byte % 62)]));
        secret.extend(letters.take(SECRET_LEN - secret.len()));
    }
    Ok(secret)
}

fn no_profile(tool: &mut Tool, name: &str) -> Failure {
    let names: Vec<String> = match tool.file() {
        Ok(file) => {
            let profiles = file.global().get("profile").and_then(Json::as_object);
            profiles.into_iter().flat_map(|all| all.keys().cloned()).take(20).collect()
        }
        Err(_broken) => Vec::new(),
    };
    let known = if names.is_empty() { "there are none".into() } else { names.join(", ") };
    Failure::failed(format!("{name}: no such profile ({known})"))
}
