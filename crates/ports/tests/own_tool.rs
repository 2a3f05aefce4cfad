//! A program with services of its own that is a tool for nodes too: this one, when it is asked to be.

use std::net::TcpListener;
use std::process::{Child, Command, ExitCode, Output};

use ports::{Context, Node};

/// Set in the environment of the tool.
const IS_TOOL: &str = "PORTS_TEST_IS_TOOL";

#[expect(clippy::print_stdout, reason = "a test tells how it went")]
fn main() -> ExitCode {
    if std::env::var_os(IS_TOOL).is_some() {
        return ports::tool::main(register);
    }
    the_node_has_the_services_of_the_program();
    println!("test the_node_has_the_services_of_the_program ... ok");
    ExitCode::SUCCESS
}

fn register(node: &Node) {
    node.register("greeter::start", |context: &Context<'_>, (word,): (String,)| {
        let port =
            context.port(move |context: &Context<'_>, (name, reply): (String, ports::PortId)| {
                context.send(&reply, vec![format!("{word}, {name}")]);
            });
        context.register_command("greeter", "the greeter's port", move |_, _| {
            Ok(vec![port.id().into()])
        });
    });
}

fn the_node_has_the_services_of_the_program() {
    let home = tempfile::tempdir().unwrap();
    let tool = |args: &[&str]| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(args).env(IS_TOOL, "1").env("PERL_ANYEVENT_MP_RC", home.path().join("rc"));
        command
    };
    let done = |args: &[&str]| {
        let Output { status, stdout, stderr } = tool(args).output().unwrap();
        assert!(status.success(), "{args:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    };
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    done(&["secret", "geheim", "seeds", &address]);
    let services = r#"[["greeter::start", "hello"]]"#;
    let mut run = tool(&["run", "nodeid", "one", "binds", &address, "services", services]);
    let _node = Running(run.spawn().unwrap());
    let port = done(&["timeout", "120", "eval", "one", "greeter"]);
    let port = port.trim().trim_matches('"');
    assert_eq!(done(&["timeout", "120", "cal", port, "world"]), "\"hello, world\"\n");
}

/// A tool that goes on, until this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}
