//! What scenarios need, made when the first of them asks for it.

use anyhow::{Result, bail};
use tokio::sync::Mutex;

use crate::cluster::{self, ELSEWHERE, SYSTEM};
use crate::{install, installations, policy, postgres, remove, restore};

/// What is on the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Whatever an earlier run left.
    Unknown,
    /// The operator and a namespace without resources of ours.
    Operator,
    /// `examples/notes.yaml`, and whether [`policy::strict`] changed it.
    Notes { is_strict: bool },
    /// `examples/notes-postgres.yaml`, and whether its operator is [`ELSEWHERE`].
    Postgres { is_elsewhere: bool },
    /// A setup failed: what needs one fails at once, and does not wait for the same again.
    Broken,
}

static STATE: Mutex<State> = Mutex::const_new(State::Unknown);

/// The operator runs.
pub(crate) async fn operator() -> Result<()> {
    let mut state = STATE.lock().await;
    if *state == State::Unknown {
        step(&mut state, State::Operator, async {
            cluster::answers().await?;
            install::chart().await?;
            install::tested().await
        })
        .await?;
    }
    not_broken(*state)
}

/// The operator runs and has nothing to do.
pub(crate) async fn nothing_else() -> Result<()> {
    operator().await?;
    let mut state = STATE.lock().await;
    match *state {
        State::Notes { .. } => step(&mut state, State::Operator, remove::notes()).await,
        State::Postgres { .. } => {
            drop(state);
            move_to(SYSTEM).await?;
            step(
                &mut *STATE.lock().await,
                State::Operator,
                remove::postgres(),
            )
            .await
        }
        other => not_broken(other),
    }
}

/// `examples/notes.yaml` is Ready.
pub(crate) async fn notes() -> Result<()> {
    if !matches!(*STATE.lock().await, State::Notes { .. }) {
        nothing_else().await?;
        let to = State::Notes { is_strict: false };
        step(&mut *STATE.lock().await, to, install::notes()).await?;
    }
    Ok(())
}

/// Likewise, with the policy and the friction of [`policy::strict`] in force.
pub(crate) async fn strict_notes() -> Result<()> {
    notes().await?;
    let mut state = STATE.lock().await;
    if *state == (State::Notes { is_strict: false }) {
        step(
            &mut state,
            State::Notes { is_strict: true },
            policy::strict(),
        )
        .await?;
    }
    Ok(())
}

/// `examples/notes-postgres.yaml` is Ready.
pub(crate) async fn notes_on_postgres() -> Result<()> {
    notes_on_postgres_wherever_the_operator_is().await?;
    move_to(SYSTEM).await
}

/// Likewise, with an operator in some namespace.
pub(crate) async fn notes_on_postgres_wherever_the_operator_is() -> Result<()> {
    if !matches!(*STATE.lock().await, State::Postgres { .. }) {
        nothing_else().await?;
        let to = State::Postgres {
            is_elsewhere: false,
        };
        step(&mut *STATE.lock().await, to, postgres::apply()).await?;
    }
    Ok(())
}

/// `examples/notes-postgres.yaml` is Ready under an operator in another namespace.
pub(crate) async fn notes_on_postgres_elsewhere() -> Result<()> {
    notes_on_postgres().await?;
    move_to(ELSEWHERE).await
}

/// Likewise, after everything was lost and restored from a backup.
pub(crate) async fn notes_on_postgres_restored() -> Result<()> {
    notes_on_postgres_wherever_the_operator_is().await?;
    let to = State::Postgres {
        is_elsewhere: false,
    };
    let restored = restore::into_an_empty_cluster();
    step(&mut *STATE.lock().await, to, restored).await
}

async fn move_to(namespace: &'static str) -> Result<()> {
    let mut state = STATE.lock().await;
    let State::Postgres { is_elsewhere } = *state else {
        return not_broken(*state);
    };
    let from = if is_elsewhere { ELSEWHERE } else { SYSTEM };
    if from == namespace {
        return Ok(());
    }
    let to = State::Postgres {
        is_elsewhere: namespace == ELSEWHERE,
    };
    step(
        &mut state,
        to,
        installations::move_operator(from, namespace),
    )
    .await
}

/// Everything is gone.
pub(crate) async fn nothing() -> Result<()> {
    nothing_else().await?;
    step(&mut *STATE.lock().await, State::Unknown, remove::chart()).await
}

/// Nothing that is called by `step` may ask for a state.
async fn step(state: &mut State, to: State, step: impl Future<Output = Result<()>>) -> Result<()> {
    let result = step.await;
    *state = if result.is_ok() { to } else { State::Broken };
    result
}

fn not_broken(state: State) -> Result<()> {
    if state == State::Broken {
        bail!("the setup failed in an earlier scenario");
    }
    Ok(())
}
