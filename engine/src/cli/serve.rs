//! `emmy serve`: a headless server that takes part in runs on many nodes.

use std::{
    io::Write,
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
};

use clap::Args;

use super::{BackendArgs, Exit, Talk, backend, complain, remark, run};
use crate::{
    security::{
        keys::{KeyError, SecretKey},
        trust,
    },
    server::serve::{Server, Settings},
    text::harmless,
};

/// `emmy serve`
#[derive(Clone, Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    backend: BackendArgs,
    /// Address and port to listen on (UDP), as in `0.0.0.0:7447`; port 0 takes any.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:7447")]
    listen: String,
    /// Secret key of this server: `emmy keygen FILE` makes one.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Whom to trust: a file with a public key in each line, of clients and of other servers.
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,
    /// Leave after one run.
    #[arg(long)]
    once: bool,
    /// Write an audit log of each run into this folder; `emmy audit verify` checks one.
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Serves until SIGINT or SIGTERM.
pub(super) fn serve(args: &ServeArgs, talk: &Talk) -> Exit {
    match settings(args).and_then(|settings| {
        let listen = settings.listen;
        Server::new(settings).map_err(|error| environment(&error.to_string(), listen))
    }) {
        Ok(mut server) => listen(&mut server, args, talk),
        Err(exit) => exit,
    }
}

fn listen(server: &mut Server, args: &ServeArgs, talk: &Talk) -> Exit {
    let stop = run::listen_for_signals();
    let served = server.serve(&stop, |address| {
        // On standard output, because programs that start servers read it.
        println!("listening on {address}");
        let _ = std::io::stdout().flush();
        if !talk.quiet {
            remark(format_args!("waits for runs; SIGINT or SIGTERM ends it"));
        }
    });
    match served {
        Ok(()) => Exit::Done,
        Err(error) => {
            complain(
                &format!("{}: {error}", args.listen),
                "choose another port with --listen, or stop the program that has this one",
            );
            Exit::Environment
        }
    }
}

fn environment(what: &str, listen: SocketAddr) -> Exit {
    complain(&format!("{listen}: {what}"), "give fewer --threads, or another --listen");
    Exit::Environment
}

fn settings(args: &ServeArgs) -> Result<Settings, Exit> {
    let cpu = backend::open_cpu(&args.backend)?;
    Ok(Settings {
        listen: address(&args.listen)?,
        secret: secret(&args.key)?,
        trusted: trusted(&args.trust)?,
        isa: cpu.isa(),
        threads: cpu.threads(),
        once: args.once,
        log: args.log.clone(),
    })
}

/// An address with a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, Exit> {
    let found = text.to_socket_addrs().ok().and_then(|mut found| found.next());
    found.ok_or_else(|| {
        complain(
            &format!("`{}` is no address with a port", harmless(text)),
            "write 127.0.0.1:7447, [::1]:7447 or host.example:7447",
        );
        Exit::WrongInput
    })
}

/// A secret key from its file.
pub(super) fn secret(path: &std::path::Path) -> Result<SecretKey, Exit> {
    SecretKey::read(path).map_err(|error| {
        let missing = matches!(&error, KeyError::File { error, .. } if error.kind() == std::io::ErrorKind::NotFound);
        let remedy = if missing {
            "make one with `emmy keygen FILE`"
        } else {
            "each node has a key of its own, which nobody else may read"
        };
        complain(&error.to_string(), remedy);
        Exit::WrongInput
    })
}

fn trusted(path: &std::path::Path) -> Result<Vec<crate::security::keys::PublicKey>, Exit> {
    let trusted = trust::read(path).map_err(|error| {
        complain(&error.to_string(), "`emmy keygen FILE` prints the line that belongs there");
        Exit::WrongInput
    })?;
    Ok(trusted.into_iter().map(|trusted| trusted.key).collect())
}
