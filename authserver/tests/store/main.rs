//! The store's conformance suite: each case runs in memory and on a real PostgreSQL. Then what only
//! PostgreSQL can be asked: outages, several replicas, mistakes in its configuration.
//!
//! `cfg(test)` on the modules tells the lints that helpers in them are tests', too.

#[cfg(test)]
mod administration;
#[cfg(test)]
mod codes;
#[cfg(test)]
mod commits;
#[cfg(test)]
mod families;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod housekeeping;
#[cfg(test)]
mod introspection;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod many;
#[cfg(test)]
mod newer_version;
#[cfg(test)]
mod operation;
#[cfg(test)]
mod peppers;
#[cfg(test)]
mod previous_version;
#[cfg(test)]
mod rates;
#[cfg(test)]
mod refresh;
#[cfg(test)]
mod registrations;

/// Runs each case on each store: a further store is one more line. A case that is written and not listed
/// below is unused code, which the lints refuse.
macro_rules! conformance {
    ($($module:ident: $($case:ident)+;)+) => {
        conformance!(@on in_memory memory, $($module: $($case)+;)+);
        conformance!(@on on_postgres postgres, $($module: $($case)+;)+);
    };
    (@on $name:ident $store:ident, $($module:ident: $($case:ident)+;)+) => {
        #[cfg(test)]
        mod $name {
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::$module::$case(&crate::fixture::Fixture::$store().await).await;
            })+)+
        }
    };
}

conformance! {
    administration:
        a_client_is_created_updated_and_left_unchanged
        a_resource_is_created_updated_and_left_unchanged
        a_resource_uri_belongs_to_one_id
        a_new_uri_revokes_the_grants_for_the_old_one
        a_withdrawn_admission_revokes_the_grants_of_whom_it_admitted
        nothing_is_issued_to_a_client_that_is_not_admitted
        a_client_that_no_longer_names_a_resource_loses_its_grants_there
        deleting_a_client_revokes_its_grants
        deleting_a_resource_revokes_its_grants
        no_grant_for_what_is_gone;
    codes:
        a_code_is_redeemed_for_what_was_granted
        code_replay_revokes_the_family
        replay_by_another_client_revokes_nothing
        sixteen_way_race_on_one_code
        another_clients_code
        expired_code
        another_redirect
        another_resource
        wrong_verifier_has_five_attempts
        a_refresh_token_used_as_a_code;
    families:
        each_history_is_one_that_the_rule_allows;
    housekeeping:
        jti_replay
        each_signing_key_is_made_once
        a_signing_key_is_replaced_and_removed_if_it_is_still_the_same
        what_has_expired_is_removed_and_nothing_else;
    introspection:
        a_live_token_is_described
        client_credentials_have_no_subject
        what_client_and_user_may_have_is_told_to_those_who_ask
        a_refresh_token_or_a_code_offered_as_an_access_token
        an_expired_token_is_inactive
        a_token_made_under_an_older_pepper_is_known
        revoking_another_clients_token_does_nothing
        revoking_an_access_token_leaves_the_family
        revoking_a_refresh_token_ends_the_family
        revoking_the_grant_ends_the_family
        revoking_a_user_ends_their_families;
    peppers:
        what_other_peppers_are_needed_for_is_counted
        what_is_used_is_kept_under_the_current_pepper;
    rates:
        sixteen_way_race_on_the_last_hits
        a_refused_hit_does_not_count
        the_rule_is_the_same_everywhere
        hits_are_remembered_for_the_limits_window;
    refresh:
        rotation
        reuse_after_the_grace_window_ends_the_family
        reuse_inside_the_grace_window_gets_a_sibling
        an_unused_token_rotates_however_far_its_siblings_are
        an_older_token_inside_its_own_grace_window_gets_a_sibling
        a_lost_response_is_forgiven_once
        a_lost_response_is_no_matter_for_siblings
        without_a_grace_period_there_are_no_siblings
        the_65th_unused_token_displaces_the_one_idle_longest
        the_last_64_used_tokens_are_kept
        another_clients_refresh_token
        refresh_cannot_widen
        a_narrower_scope_is_for_one_token
        idle_expiry
        absolute_expiry
        the_clients_resource_is_deleted
        parallel_refreshes_all_succeed
        refresh_racing_revoke_nothing_survives;
    registrations:
        a_registered_client_is_there
        the_oldest_never_used_one_of_the_largest_network_makes_room
        where_all_are_in_use_nobody_else_registers
        a_client_that_a_user_is_signing_in_with_does_not_make_room
        sixteen_registrations_at_once_keep_to_the_maximum
        what_is_registered_is_replaced_and_never_revived
        unused_clients_are_removed;
}
