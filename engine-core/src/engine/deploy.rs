//! A deployment, from the bytes of a module to a [`Function`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::cancel::Cancel;
use crate::error::{Error, Result, panic_text};
use crate::limits::{PAGE, SandboxLimits};
use crate::per_cpu::PerCpu;
use crate::priority::step_back;
use crate::sandbox::Program;
use crate::sandbox::wasi::MountSet;
use crate::snapshot::{self, Wanted};
use crate::threads::DEPLOY_STACK;
use crate::wasm::{Form, Wasm};

use super::function::{Function, FunctionConfig, FunctionFacts, Inner};
use super::shared::Shared;

/// Deploys `wasm`, in this order: check the settings, validate the module, get its code and memory, try one sandbox,
/// take the snapshot.
pub(super) fn deploy(
    shared: &Arc<Shared>,
    wasm: &[u8],
    mut config: FunctionConfig,
    cancel: &Cancel,
) -> Result<Function> {
    check_limits(&config.limits)?;
    check_sample(&mut config)?;
    let program = program(&mut config)?;
    let per_request_values = count_per_request_values(&config);
    let mounts = match config.mounts.as_slice() {
        [] => None,
        specs => Some(MountSet::new(specs, &shared.files)?),
    };
    let (index, backend) = shared.backend(config.backend.as_deref())?;
    if let Some(narrow) = &shared.narrow {
        narrow.check(&**backend)?;
    }

    let wasm = Wasm::parse(wasm, shared.features, &shared.bounds)?;
    wasm.check_limits(&config.limits)?;
    check_contract(&wasm, &config)?;
    let in_frames = config.contract.in_frames().filter(|_| wasm.takes_frames());
    if let Some(contract) = in_frames {
        config.contract = contract;
        // As that contract writes requests.
        check_sample(&mut config)?;
    }
    let waits = wasm.waits();
    let suspends = waits.calls
        || config.contract.always_streams()
        || (waits.may_pause && backend.capabilities().suspends);

    let (loaded, origin) = shared.loader.module(
        &shared.slots,
        backend,
        &wasm,
        &config.limits,
        suspends,
        cancel,
    )?;

    let (snapshot, snapshot_facts) = snapshot::take(&Wanted {
        calls: &shared.calls,
        slots: &shared.slots,
        loaded: &loaded,
        contract: config.contract,
        include: config.include,
        program: &program,
        per_request_values,
        mounts: mounts.as_ref(),
        limits: &config.limits,
        form: wasm.form(),
        mode: config.snapshot,
        warmup: config.warmup.as_ref(),
    })?;

    let facts = FunctionFacts {
        backend: backend.name(),
        suspends: backend.capabilities().suspends,
        sha256: *wasm.sha256(),
        module_bytes: wasm.bytes().len(),
        image_bytes: loaded.split.image.as_ref().map(|image| image.len()),
        plain_because: loaded.split.why_not.clone(),
        source: origin.source,
        loaded_in: origin.loaded_in,
        compiled_in: loaded.compiled_in,
        form: wasm.form(),
        reads_body: wasm.reads_body(),
        frames: in_frames.is_some(),
        snapshot: snapshot_facts,
    };
    shared.counters.deployed(facts.snapshot.kind);
    Ok(Function {
        inner: Arc::new(Inner {
            shared: Arc::clone(shared),
            backend: index,
            config,
            loaded,
            snapshot,
            programs: PerCpu::new(|| Arc::new(program.clone())),
            per_request_values,
            mounts,
            facts,
        }),
    })
}

/// [`deploy`] on a separate thread with a large stack and a low priority.
pub(super) fn deploy_on_thread(
    shared: &Arc<Shared>,
    wasm: &[u8],
    config: FunctionConfig,
    cancel: &Cancel,
) -> Result<Function> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("gojinn-deploy".into())
            .stack_size(DEPLOY_STACK)
            .spawn_scoped(scope, || {
                step_back();
                catch_unwind(AssertUnwindSafe(|| deploy(shared, wasm, config, cancel)))
                    .unwrap_or_else(|panic| {
                        Err(Error::host(format!(
                            "a bug in Gojinn: the deployment panicked: {}; please report it",
                            panic_text(&*panic)
                        )))
                    })
            })
            .map_err(|error| {
                Error::host("cannot start a thread for the deployment").because(error)
            })?
            .join()
            .unwrap_or_else(|_| {
                Err(Error::host(
                    "a bug in Gojinn: the deployment's thread panicked; please report it",
                ))
            })
    })
}

/// Refuses a module whose entry points are those of another contract.
fn check_contract(wasm: &Wasm, config: &FunctionConfig) -> Result<()> {
    let contract = config.contract.name();
    if contract == "http-wasm" && config.warmup.is_some() {
        return Err(Error::config(
            "warmup is not for guests of http-wasm, which may handle requests in any way; leave it out",
        ));
    }
    match (wasm.form() == Form::HttpHandler, contract == "http-wasm") {
        (true, false) => Err(Error::config(format!(
            "the module is a guest of http-wasm (it exports handle_request and handle_response), but its contract is {contract}: \
             set the contract http-wasm"
        ))),
        (false, true) => Err(Error::invalid_module(
            "the contract is http-wasm, but the module does not export both handle_request [] -> [i64] and handle_response \
             [i32 i32] -> []: leave the contract out for a program that reads its request from stdin",
        )),
        _ => Ok(()),
    }
}

/// How many values of `env` and `args` each call must provide.
fn count_per_request_values(config: &FunctionConfig) -> usize {
    let env = config.env.iter().filter(|(_, value)| value.is_none());
    env.count() + config.args.iter().filter(|value| value.is_none()).count()
}

/// Refuses limits that no module can satisfy.
fn check_limits(limits: &SandboxLimits) -> Result<()> {
    if limits.timeout.is_zero() {
        return Err(Error::config("timeout is 0; it must be longer than 0"));
    }
    if limits.memory < PAGE || limits.memory > 4 << 30 {
        return Err(Error::config(format!(
            "memory_limit is {} bytes; it must be between 64 KiB (one page) and 4 GiB",
            limits.memory
        )));
    }
    Ok(())
}

/// Checks the sample of the warm-up, and brings it to the form in which the guest reads requests.
fn check_sample(config: &mut FunctionConfig) -> Result<()> {
    let Some(sample) = config
        .warmup
        .as_mut()
        .and_then(|warmup| warmup.sample.as_mut())
    else {
        return Ok(());
    };
    *sample = config
        .contract
        .check_sample(sample, config.limits.body)
        .map_err(|wrong| Error::config(format!("the sample of warmup, {wrong}")))?;
    Ok(())
}

/// The program, with empty per-request values. Also fills in `config.program` if it is empty.
fn program(config: &mut FunctionConfig) -> Result<Program> {
    if config.program.is_empty() {
        config.program.clone_from(&config.name);
    }
    let mut args = vec![config.program.clone()];
    args.extend(
        config
            .args
            .iter()
            .map(|arg| arg.clone().unwrap_or_default()),
    );
    let env: Vec<_> = config
        .env
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().unwrap_or_default()))
        .collect();
    for (name, value) in &env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Error::config(format!(
                "the env name {name:?} is empty or contains `=` or a NUL byte; rename it"
            )));
        }
        if value.contains('\0') {
            return Err(Error::config(format!(
                "the value of env {name} contains a NUL byte, which no environment can hold; remove it"
            )));
        }
    }
    if let Some(arg) = args.iter().find(|arg| arg.contains('\0')) {
        return Err(Error::config(format!(
            "the argument {arg:?} contains a NUL byte, which no argument can hold; remove it"
        )));
    }
    let data = config.data.clone();
    if data
        .as_ref()
        .is_some_and(|data| i32::try_from(data.len()).is_err())
    {
        return Err(Error::config(
            "data has more than 2 GiB, which no guest can be given; it must be smaller",
        ));
    }
    Ok(Program {
        data,
        args: args.into_iter().map(String::into_bytes).collect(),
        env: env
            .into_iter()
            .map(|(name, value)| (name, value.into_bytes()))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Warmup;

    #[test]
    fn a_sample_is_checked() {
        let mut config = FunctionConfig::default();
        assert!(check_sample(&mut config).is_ok(), "there is no warm-up");
        let sample = |text: &str| {
            let (rounds, sample) = (3, Some(text.as_bytes().to_vec()));
            Some(Warmup { rounds, sample })
        };
        config.warmup = sample("{\n}");
        let error = check_sample(&mut config).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Config);
        let expected = "the sample of warmup, 1:1: the request lacks";
        assert!(error.to_string().starts_with(expected), "{error}");

        let request =
            r#"{ "method":"GET", "uri":"/", "headers":{}, "body":"1234", "trace_id":"t" }"#;
        config.warmup = sample(request);
        check_sample(&mut config).unwrap();
        let line = [request.replace(' ', ""), "\n".to_owned()].concat();
        assert_eq!(config.warmup, sample(&line));
        config.limits.body = 3;
        let error = check_sample(&mut config).unwrap_err().to_string();
        assert!(error.contains("the 3 of max_body"), "{error}");
    }

    #[test]
    fn a_program_is_checked() {
        let mut config = FunctionConfig {
            name: "hello".into(),
            env: vec![("A=B".into(), Some("1".into()))],
            ..FunctionConfig::default()
        };
        assert!(
            program(&mut config)
                .unwrap_err()
                .to_string()
                .contains("A=B")
        );
        config.env = vec![("A".into(), Some("1\0".into()))];
        assert!(
            program(&mut config)
                .unwrap_err()
                .to_string()
                .contains("NUL")
        );
        config.env = vec![("A".into(), None)];
        config.args = vec![Some("--verbose".into()), None];
        let program = program(&mut config).unwrap();
        assert_eq!(program.args, [&b"hello"[..], b"--verbose", b""]);
        assert_eq!(program.env, [("A".to_string(), Vec::new())]);
    }
}
