//! Services: what a node starts when it is configured.

use serde_json::Value as Json;

use crate::Value;

/// Something that a node starts when it is configured.
#[derive(Clone, Debug, PartialEq)]
pub enum Service {
    /// `name::`: everything that is registered below that name. The `::` is part of it.
    Module(String),
    /// `name`, or `["name", argument, …]`: call a function.
    Call {
        /// Its name.
        function: String,
        /// What it gets.
        args: Vec<Value>,
    },
    /// `exec:PROGRAM ARGUMENT …`, or `["exec:PROGRAM", argument, …]`: start a program.
    Exec {
        /// Its path or name.
        program: String,
        /// What it gets.
        args: Vec<String>,
    },
}

impl Service {
    /// Takes what stands in a list of services for one.
    ///
    /// # Errors
    /// What was expected instead.
    pub(super) fn from_json(value: &Json) -> Result<Self, &'static str> {
        match value {
            Json::String(text) => Self::from_text(text),
            Json::Array(list) => Self::from_list(list),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => Err(EXPECTED),
        }
    }

    fn from_text(text: &str) -> Result<Self, &'static str> {
        if let Some(line) = text.strip_prefix(EXEC) {
            let mut words = split_words(line)?.into_iter();
            let program = words.next().filter(|word| !word.is_empty()).ok_or(EXPECTED_PROGRAM)?;
            return Ok(Self::Exec { program, args: words.collect() });
        }
        match text {
            "" | "::" => Err(EXPECTED),
            module if module.ends_with("::") => Ok(Self::Module(module.into())),
            function => Ok(Self::Call { function: function.into(), args: Vec::new() }),
        }
    }

    fn from_list(list: &[Json]) -> Result<Self, &'static str> {
        let Some((Json::String(first), args)) = list.split_first() else { return Err(EXPECTED) };
        if let Some(program) = first.strip_prefix(EXEC) {
            if program.is_empty() || program.contains('\0') {
                return Err(EXPECTED_PROGRAM);
            }
            let args = args.iter().map(argument).collect::<Result<_, _>>()?;
            return Ok(Self::Exec { program: program.into(), args });
        }
        if first.is_empty() {
            return Err(EXPECTED);
        }
        Ok(Self::Call { function: first.clone(), args: args.iter().map(to_value).collect() })
    }
}

fn argument(value: &Json) -> Result<String, &'static str> {
    match value {
        Json::String(text) if !text.contains('\0') => Ok(text.clone()),
        Json::Number(number) => Ok(number.to_string()),
        Json::String(_) | Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => {
            Err("texts and numbers as arguments of a program")
        }
    }
}

/// As deep as the JSON is, which its parser bounds.
fn to_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number
            .as_i64()
            .map(Value::Integer)
            .or_else(|| number.as_u64().map(Value::from))
            .or_else(|| number.as_f64().map(Value::Float))
            .unwrap_or_default(),
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(list) => Value::List(list.iter().map(to_value).collect()),
        Json::Object(map) => {
            Value::Map(map.iter().map(|(key, value)| (key.clone(), to_value(value))).collect())
        }
    }
}

/// Words as a shell would see them: quotes of both kinds hold a word together, a backslash takes what follows it
/// as it is (not within single quotes). Nothing else has a meaning.
fn split_words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (_, '\0') => return Err("a program line without zero bytes"),
            (Some(open), close) if open == close => quote = None,
            (None | Some('"'), '\\') => {
                let next = chars.next().ok_or("a character after the last backslash")?;
                word.get_or_insert_default().push(next);
            }
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote that is closed");
    }
    words.extend(word);
    Ok(words)
}

const EXEC: &str = "exec:";
const EXPECTED: &str = "services: each 'module::', 'function', 'exec:PROGRAM ARGUMENTS', or a list of a function and its arguments";
const EXPECTED_PROGRAM: &str = "the name of a program behind 'exec:'";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn modules_functions_and_programs_are_told_apart() {
        let call = |function: &str, args| Ok(Service::Call { function: function.into(), args });
        assert_eq!(Service::from_json(&json!("chat::")), Ok(Service::Module("chat::".into())));
        assert_eq!(Service::from_json(&json!("chat::run")), call("chat::run", vec![]));
        assert_eq!(
            Service::from_json(&json!(["chat::run", 1, 2.5, null, ["x"], { "k": true }])),
            call(
                "chat::run",
                vec![
                    1_i64.into(),
                    2.5.into(),
                    Value::Null,
                    Value::List(vec!["x".into()]),
                    Value::Map([("k".to_owned(), true.into())].into()),
                ]
            )
        );
        assert_eq!(
            Service::from_json(&json!(["exec:/opt/my prog", "a b", 7])),
            exec("/opt/my prog", &["a b", "7"])
        );
    }

    #[test]
    fn programs_get_words_as_from_a_shell() {
        for (line, program, args) in [
            ("exec:echo", "echo", vec![]),
            ("exec: echo  a\tb ", "echo", vec!["a", "b"]),
            ("exec:echo 'a b' \"c d\" e\\ f", "echo", vec!["a b", "c d", "e f"]),
            ("exec:'my prog' x'y'\"z\" ''", "my prog", vec!["xyz", ""]),
            (r#"exec:echo 'a\b' "a\"b" $HOME"#, "echo", vec![r"a\b", "a\"b", "$HOME"]),
        ] {
            assert_eq!(Service::from_json(&json!(line)), exec(program, &args), "{line}");
        }
    }

    #[test]
    fn what_is_no_service_is_refused() {
        for value in [
            json!(null),
            json!(7),
            json!({}),
            json!([]),
            json!([7]),
            json!([""]),
            json!(""),
            json!("::"),
            json!("exec:"),
            json!("exec:  "),
            json!("exec:''"),
            json!("exec:a 'b"),
            json!("exec:a \\"),
            json!("exec:a\u{0}b"),
            json!(["exec:"]),
            json!(["exec:a", []]),
            json!(["exec:a", "\u{0}"]),
        ] {
            assert!(Service::from_json(&value).is_err(), "{value}");
        }
    }

    fn exec(program: &str, args: &[&str]) -> Result<Service, &'static str> {
        let args = args.iter().map(ToString::to_string).collect();
        Ok(Service::Exec { program: program.into(), args })
    }
}
