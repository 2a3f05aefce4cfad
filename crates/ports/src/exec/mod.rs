//! Programs that are services: child processes in any language, which join as nodes of their own.
//!
//! A program that runs is a port: to end the port is to end the program, and the port ends when the
//! program does. So programs are [supervised](crate::Supervisor) as ports are.
//!
//! What a program needs to join stands in its environment, see [`ProgramSpec`]. The rest is the simple
//! handshake: four lines, then one JSON list after another.

mod lines;
mod process;

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::process::Process;
use crate::wire::Framing;
use crate::{
    ChildSpec, Context, Node, NodeId, PortId, Reason, ServiceError, SupervisorError, SupervisorSpec,
};

/// A program and how to run it.
///
/// It finds in its environment:
///
/// | name | what |
/// | --- | --- |
/// | `PORTS_SEED` | where this node listens: one or more `host:port`, with commas between |
/// | `PORTS_SECRET` | the shared secret. It is never among the arguments, where all users would see it |
/// | `PORTS_NODE` | a node ID that nobody has had before; the program may choose another |
/// | `PORTS_FRAMING` | how it had better write: `json`, or `cbor` if this node takes no JSON |
/// | `PORTS_PARENT` | the ID of this node |
///
/// Its input ends when this node does. What it writes to its output and error output goes to the log line by
/// line, up to 8 KiB of each. It leads a process group of its own, which ends with it.
#[derive(Clone, Debug)]
pub struct ProgramSpec {
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    patience: Duration,
}

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// There is no secret by which it could join.
    #[error("cannot start {0}: programs join by a shared secret, so configure one (secret)")]
    NoSecret(String),
    /// There is nowhere to join.
    #[error("cannot start {0}: programs join by a listener of this node, so configure one (binds)")]
    NoListener(String),
    /// The system says no.
    #[error("cannot start {program}: {error}")]
    Spawn {
        /// Its name.
        program: String,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

/// What the port of a program takes.
#[derive(Serialize, Deserialize)]
enum Order {
    /// End it, and give it time for that.
    Stop,
}

impl ProgramSpec {
    /// A program, by its path, or by a name that is looked for in `PATH`.
    pub fn new(program: &str) -> Self {
        Self {
            program: program.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            patience: Duration::from_secs(5),
        }
    }

    /// Adds an argument. All users of the machine can see it.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Sets something in its environment, besides what this process has in its own.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// How long it has from `SIGTERM` to `SIGKILL`. Default: 5 s.
    #[must_use]
    pub const fn patience(mut self, time: Duration) -> Self {
        self.patience = time;
        self
    }

    /// Its name without folders.
    fn name(&self) -> &str {
        self.program.rsplit('/').next().unwrap_or_default()
    }
}

impl ChildSpec {
    /// A program as a supervisor's child, which is asked to end before it is killed.
    pub fn program(name: &str, spec: ProgramSpec) -> Self {
        let patience = spec.patience + PATIENCE_BEYOND;
        let start = move |node: &Node| Ok(node.start_program(&spec)?);
        Self::new(name, start).stop_by_message().patience(patience)
    }
}

impl Node {
    /// Starts a program. The port that this returns ends when it does: normally if it was successful, else
    /// with the reason `exit` and a text. The message `["stop"]` ends it in good order: `SIGTERM`, then
    /// `SIGKILL`. If the port is killed the same is done, but the port does not wait for it.
    ///
    /// When the node is dropped, that waits until its programs have ended.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_program(&self, spec: &ProgramSpec) -> Result<PortId, ProgramError> {
        let mut command = self.command(spec)?;
        let spawn = |error| ProgramError::Spawn { program: spec.program.clone(), error };
        let (process, outputs) =
            Process::start(self, spec.name(), &mut command, spec.patience).map_err(spawn)?;
        let held = std::rc::Rc::clone(&process);
        let port = self.port(move |context: &Context<'_>, Order::Stop| held.stop(context));
        let port = port.id();
        tracing::info!("{port}: {} has started", spec.program);
        let id = port.clone();
        let process = std::rc::Rc::downgrade(&process);
        self.with_reactor(move |node, reactor| {
            for (output, kind) in outputs {
                lines::log(output, kind, reactor);
            }
            let Some(process) = process.upgrade() else { return };
            if let Err(error) = process.watch(&id, reactor) {
                let text = format!("{} cannot be watched: {error}", process.name());
                node.kill(&id, Reason::new("exit", text));
            }
        });
        Ok(port)
    }

    fn command(&self, spec: &ProgramSpec) -> Result<Command, ProgramError> {
        let handshake = &self.shared.mesh.handshake;
        let secret = handshake.secret.as_ref();
        let secret = secret.ok_or_else(|| ProgramError::NoSecret(spec.program.clone()))?;
        let seeds: Vec<String> =
            self.listeners().iter().map(|address| reachable(address)).collect();
        if seeds.is_empty() {
            return Err(ProgramError::NoListener(spec.program.clone()));
        }
        let framing = if handshake.framings.contains(&Framing::Json) { "json" } else { "cbor" };
        let mut command = Command::new(&spec.program);
        command
            .args(&spec.args)
            .envs(spec.env.iter().map(|(name, value)| (name, value)))
            .env("PORTS_SEED", seeds.join(","))
            .env("PORTS_SECRET", secret.as_os_str())
            .env("PORTS_NODE", self.new_node_id(spec.name()).as_str())
            .env("PORTS_FRAMING", framing)
            .env("PORTS_PARENT", self.id().as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }

    /// A node ID for a program that no other run of it has had.
    fn new_node_id(&self, name: &str) -> NodeId {
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let name: String = name.chars().filter(is_plain).take(NAME_LEN_MAX).collect();
        let unique = format!("{:x}{:x}", (self.chance() * RANDOM_MAX) as u64, self.next_number());
        NodeId::new(&format!("{}/{name}/{unique}", self.id()))
            .or_else(|_| NodeId::new(&format!("{name}/{unique}")))
            .expect("letters and digits, and not many")
    }

    /// Starts a program that is a service, and again whenever it fails.
    pub(crate) fn start_program_service(
        &self,
        program: &str,
        args: &[String],
    ) -> Result<(), ServiceError> {
        let mut spec = ProgramSpec::new(program);
        spec.args = args.to_vec();
        let child = ChildSpec::program(program, spec).transient();
        let supervisor = SupervisorSpec::one_for_one()
            .restarts(usize::MAX, Duration::ZERO)
            .back_off(BACK_OFF_FIRST, BACK_OFF_LONGEST)
            .child(child);
        let supervisor = self.supervise(supervisor).map_err(|error| {
            let reason = match error {
                SupervisorError::Child { reason, .. } => reason,
                other => Reason::from(other),
            };
            ServiceError::Failed(format!("exec:{program}"), reason)
        })?;
        self.shared.programs.borrow_mut().push(supervisor);
        Ok(())
    }

    /// Ends the programs that are services, and starts them no more.
    pub(crate) fn stop_programs(&self) {
        let programs = self.shared.programs.take();
        for supervisor in programs {
            supervisor.stop();
        }
    }
}

/// An address that a program on this machine can reach us at.
fn reachable(address: &str) -> String {
    address.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:")
}

/// How much of a program's name stands in its node ID.
const NAME_LEN_MAX: usize = 40;
const RANDOM_MAX: f64 = (1u64 << 53) as f64;
const BACK_OFF_FIRST: Duration = Duration::from_millis(500);
const BACK_OFF_LONGEST: Duration = Duration::from_secs(60);
/// From `SIGKILL` until the system says that it is over.
const PATIENCE_BEYOND: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_addresses_that_they_can_reach() {
        assert_eq!(reachable("0.0.0.0:4040"), "127.0.0.1:4040");
        assert_eq!(reachable("[::]:4040"), "[::1]:4040");
        assert_eq!(reachable("192.0.2.1:4040"), "192.0.2.1:4040");
    }
}
