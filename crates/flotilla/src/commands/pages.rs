//! `flotilla completions` and `flotilla man`: made from the command line's own description.

use std::io;

use clap::CommandFactory;

use crate::cli::{Cli, Completions, Man};
use crate::failure::Failure;
use crate::terminal::Terminal;

pub(crate) fn completions(options: &Completions, terminal: &Terminal) {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "flotilla", &mut script);
    terminal.raw(&script);
}

pub(crate) fn man(options: &Man, terminal: &Terminal) -> Result<(), Failure> {
    if let Some(dir) = &options.dir {
        let wrong = |error: io::Error| Failure::at(dir, error);
        std::fs::create_dir_all(dir).map_err(wrong)?;
        return clap_mangen::generate_to(Cli::command(), dir).map_err(wrong);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    terminal.raw(&page);
    Ok(())
}
