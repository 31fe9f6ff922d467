//! The program: settings, assembly, shutdown.

mod allocator;
mod client;
mod copy;
mod demo;
mod doctor;
mod drill;
mod figures;
mod operator;
mod otlp;
mod serve;
mod settings;
mod telemetry;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use settings::{Cli, Command, Wrong};

/// A setting is wrong, or an input cannot be used.
const EXIT_USAGE: u8 = 2;

/// It ended, but not all of it could be done.
const EXIT_INCOMPLETE: u8 = 3;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if !e.use_stderr() => {
            // Help and version are answers, not errors.
            let _ = e.print();
            return ExitCode::SUCCESS;
        }
        Err(e) => return usage(&one_line(&e.to_string())),
    };
    let stays = matches!(
        cli.command,
        Command::Serve(_) | Command::Backfill(_) | Command::Demo(_) | Command::DrillPlane(_) | Command::DrillBare(_)
    );
    if stays {
        allocator::settle();
    }
    let done = match cli.command {
        Command::Serve(settings) => match settings.checked() {
            Ok(settings) => serve::run(settings),
            Err(Wrong(why)) => return usage(&why),
        },
        Command::Backfill(settings) => match settings.checked() {
            Ok(settings) => match serve::backfill(settings) {
                Ok(0) => Ok(()),
                Ok(_) => return ExitCode::from(EXIT_INCOMPLETE),
                Err(e) => Err(e),
            },
            Err(Wrong(why)) => return usage(&why),
        },
        Command::Config(settings) => match settings.checked() {
            Ok(settings) => {
                telemetry::say(&format!("{settings:#?}"));
                Ok(())
            }
            Err(Wrong(why)) => return usage(&why),
        },
        Command::Demo(settings) => demo::run(settings),
        Command::Get(settings) => client::run(settings),
        Command::Doctor(settings) => match doctor::run(*settings) {
            Ok(true) => Ok(()),
            // What must change has been said.
            Ok(false) => return ExitCode::FAILURE,
            Err(e) => Err(e),
        },
        Command::Copy(settings) => match copy::run(&settings) {
            Ok(code) => return code,
            Err(Wrong(why)) => return usage(&why),
        },
        Command::Drill(settings) => return drill::run(&settings),
        Command::DrillTwin(settings) => drill::twin(settings),
        Command::DrillBare(settings) => drill::bare(settings),
        Command::DrillPlane(settings) => drill::scripted(settings),
        Command::Catalog => {
            telemetry::say(&gp_serve::catalog::markdown());
            Ok(())
        }
        Command::Completions { shell } => return completions(&shell),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            telemetry::complain(&format!("groundplane: {e:#}"));
            ExitCode::FAILURE
        }
    }
}

fn usage(why: &str) -> ExitCode {
    telemetry::complain(&format!("groundplane: {why}"));
    ExitCode::from(EXIT_USAGE)
}

/// The first sentence of what the parser says, without its decoration.
fn one_line(message: &str) -> String {
    let first: Vec<&str> = message.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let line = first.join(" ");
    format!("{} (see --help)", line.strip_prefix("error: ").unwrap_or(&line))
}

fn completions(shell: &str) -> ExitCode {
    let names: Vec<&str> = gp_proto::METHODS.iter().map(|(name, _, _)| *name).collect();
    let commands: Vec<String> = Cli::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let (names, commands) = (names.join(" "), commands.join(" "));
    let script = match shell {
        "bash" => format!(
            "_groundplane() {{\n  local cur=${{COMP_WORDS[COMP_CWORD]}}\n  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    COMPREPLY=($(compgen -W \"{commands}\" -- \"$cur\"))\n  elif [ \"${{COMP_WORDS[1]}}\" = get ]; then\n    COMPREPLY=($(compgen -W \"{names}\" -- \"$cur\"))\n  fi\n}}\ncomplete -F _groundplane groundplane"
        ),
        "zsh" => format!(
            "#compdef groundplane\n_groundplane() {{\n  if (( CURRENT == 2 )); then\n    compadd {commands}\n  elif [[ $words[2] == get ]]; then\n    compadd {names}\n  fi\n}}\ncompdef _groundplane groundplane"
        ),
        "fish" => format!(
            "complete -c groundplane -f\ncomplete -c groundplane -n '__fish_is_first_arg' -a '{commands}'\ncomplete -c groundplane -n '__fish_seen_subcommand_from get' -a '{names}'"
        ),
        other => return usage(&format!("completions: {other:?} is not a shell we know: use bash, zsh or fish")),
    };
    telemetry::say(&script);
    ExitCode::SUCCESS
}
