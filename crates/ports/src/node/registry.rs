//! Functions that may be called by name, from here or from other nodes: only those that were registered.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::Node;
use super::context::{Context, arguments};
use super::outcome::Outcome;
use super::port::panic_text;
use crate::{List, Message, Reason};

/// A function that may be called by name.
pub(crate) type Function = Rc<dyn Fn(&Context<'_>, List) -> Result<(), Reason>>;

/// What makes the functions of a module known.
type Module = Box<dyn FnOnce(&Node) -> Result<(), Reason>>;

/// Why a function could not be called.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum FunctionError {
    #[error("unable to resolve function '{0}'")]
    Unknown(String),
    #[error("unable to load the module for function '{0}': {1}")]
    Module(String, Reason),
}

/// All functions by name.
#[derive(Default)]
pub(crate) struct Registry {
    functions: BTreeMap<String, Function>,
    /// Those that are loaded when a function of theirs is first asked for.
    modules: BTreeMap<String, Module>,
    loaded: BTreeSet<String>,
}

impl Node {
    /// Makes a function known by a name, `module::function`, for `spawn`, calls and services; `::function`
    /// is one of the program's own. Its arguments are the list that the caller gives, as a type. One of
    /// the same name is replaced.
    pub fn register<T: Message, O: Outcome>(
        &self,
        name: &str,
        function: impl Fn(&Context<'_>, T) -> O + 'static,
    ) {
        let function: Function =
            Rc::new(move |context, args| function(context, arguments(args)?).into_result());
        let before =
            self.shared.registry.borrow_mut().functions.insert(bare(name).to_owned(), function);
        drop(before);
    }

    /// Makes a module known by its name, without the `::`. It is loaded, once, when a function whose name
    /// begins with it is first asked for, or as a service: then it registers its functions and does what
    /// else it likes. If it fails, so does what asked for it, and there is no such module any more.
    pub fn register_module<O: Outcome>(&self, name: &str, load: impl FnOnce(&Self) -> O + 'static) {
        let load: Module = Box::new(move |node| load(node).into_result());
        let before = self.shared.registry.borrow_mut().modules.insert(bare(name).to_owned(), load);
        drop(before);
    }

    /// Loads a module, unless that was done before. Returns whether there is one.
    ///
    /// # Errors
    /// With which it failed.
    pub fn load_module(&self, name: &str) -> Result<bool, Reason> {
        let load = self.shared.registry.borrow_mut().modules.remove(name);
        let Some(load) = load else {
            return Ok(self.shared.registry.borrow().loaded.contains(name));
        };
        // It may ask for its own functions.
        self.shared.registry.borrow_mut().loaded.insert(name.to_owned());
        let loaded = catch_unwind(AssertUnwindSafe(|| load(self)));
        let result = loaded.unwrap_or_else(|panic| Err(Reason::die(panic_text(&*panic))));
        result.inspect_err(|_| {
            self.shared.registry.borrow_mut().loaded.remove(name);
        })?;
        Ok(true)
    }

    /// A function by its name; a module is loaded for it if need be, the longest name first.
    pub(crate) fn function(&self, name: &str) -> Result<Function, FunctionError> {
        let name = bare(name);
        let shown = || name.chars().take(100).collect();
        let mut module = name;
        loop {
            if let Some(found) = self.shared.registry.borrow().functions.get(name) {
                return Ok(Rc::clone(found));
            }
            let Some((shorter, _)) = module.rsplit_once("::") else {
                return Err(FunctionError::Unknown(shown()));
            };
            module = shorter;
            self.load_module(module).map_err(|reason| FunctionError::Module(shown(), reason))?;
        }
    }

    /// All names of functions, in order.
    pub fn functions(&self) -> Vec<String> {
        self.shared.registry.borrow().functions.keys().cloned().collect()
    }
}

/// A name without the `::` that stands for the program itself.
fn bare(name: &str) -> &str {
    name.strip_prefix("::").unwrap_or(name)
}
