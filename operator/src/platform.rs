//! What the cluster does to pods, as far as the pods have to be built for it.

use kube::Client;

use crate::config::UserIds;

/// The API group of OpenShift's security context constraints, which give each namespace a range of uids and refuse pods
/// that name others.
const SECURITY_CONTEXT_CONSTRAINTS: &str = "security.openshift.io";

/// Decides [`UserIds::Auto`] by what the cluster serves.
///
/// # Errors
/// The API server does not answer. Discovery needs no permission that the chart could grant.
pub async fn user_ids(client: &Client, wanted: UserIds) -> Result<UserIds, kube::Error> {
    if wanted != UserIds::Auto {
        return Ok(wanted);
    }
    let groups = client.list_api_groups().await?.groups;
    let constrained = groups
        .iter()
        .any(|group| group.name == SECURITY_CONTEXT_CONSTRAINTS);
    Ok(match constrained {
        true => UserIds::Platform,
        false => UserIds::Fixed,
    })
}
