//! PostgreSQL's outages, made for real: what each request gets from the program meanwhile, that everything goes on afterwards
//! without a restart, and that nothing is lost or given twice.

mod ask;
mod failover;
mod full;
mod locks;
mod replica;
mod silence;
mod stop;
mod traffic;

use futures::future::join_all;
use mcpauth_test_support::wait::eventually;

use ask::{Ask, Got, Held};
use replica::Replica;

/// What a request gets during an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gets {
    /// As always.
    Answer,
    /// 503 with `Retry-After`.
    Unavailable,
    /// The user is sent back to the client with `temporarily_unavailable`.
    SentBack,
    /// An answer or 503.
    Either,
}

use Gets::{Answer, Either, SentBack, Unavailable};

/// What each request gets.
type Table = [(Ask, Gets); 11];

/// The database does not answer.
const AWAY: Table = [
    (Ask::Discovery, Answer),
    (Ask::Jwks, Answer),
    (Ask::Authorize, Unavailable),
    (Ask::Code, Unavailable),
    (Ask::Refresh, Unavailable),
    (Ask::ClientCredentials, Unavailable),
    (Ask::Introspect, Unavailable),
    (Ask::Revoke, Unavailable),
    (Ask::Register, Unavailable),
    (Ask::PutClient, Unavailable),
    (Ask::Ready, Unavailable),
];

/// The database answers, and takes no changes.
const UNCHANGEABLE: Table = [
    (Ask::Discovery, Answer),
    (Ask::Jwks, Answer),
    (Ask::Authorize, SentBack),
    (Ask::Code, Unavailable),
    (Ask::Refresh, Unavailable),
    (Ask::ClientCredentials, Unavailable),
    (Ask::Introspect, Answer),
    (Ask::Revoke, Unavailable),
    (Ask::Register, Unavailable),
    (Ask::PutClient, Unavailable),
    (Ask::Ready, Answer),
];

/// Sends all requests at once, and compares what they get.
async fn meanwhile(replica: &Replica, held: &Held, table: &Table) {
    let answers = join_all(table.map(|(ask, _)| ask.send(replica, held))).await;
    let wrong: Vec<_> = table
        .iter()
        .zip(&answers)
        .filter(|((ask, gets), got)| !got.is(*ask, *gets))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Everything goes on, at all replicas: a client that got 503 sends the same again and succeeds.
async fn afterwards(replicas: &[&Replica], held: &Held) {
    let replica = replicas[0];
    let insist = async |ask: Ask| -> Got {
        eventually(&format!("{ask:?} is answered"), async || {
            let got = ask.send(replica, held).await;
            match got.is(ask, Unavailable) || got.is(ask, SentBack) {
                true => Err(format!("{got:?}")),
                false => Ok(got),
            }
        })
        .await
    };
    for ask in Ask::ALL {
        // Where there was no room for everything, it may have been.
        if ask == Ask::Code && held.is_redeemed() {
            continue;
        }
        let got = insist(ask).await;
        assert!(got.is(ask, Answer), "{ask:?}: {got:?}");
        if ask.issues() {
            for replica in replicas {
                let active = replica.is_active(&got.token("access_token")).await;
                assert!(active, "{ask:?}");
            }
        }
    }
    for replica in replicas {
        eventually("the replica is ready", async || {
            let got = Ask::Ready.send(replica, held).await;
            got.is(Ask::Ready, Answer).then_some(())
        })
        .await;
        assert!(replica.is_active(&held.access).await);
        assert!(!replica.is_active(&held.revoked_access).await);
    }
    // It was redeemed once.
    let again = Ask::Code.send(replica, held).await;
    assert_eq!(again.status, 400, "{again:?}");
}
