//! What every adapter must do: one list of tests, run against each of them by [`conformance!`](crate::conformance!).

pub mod faults;
pub mod master;
pub mod messages;
pub mod runtime;
pub mod starting;
mod world;

use std::sync::Arc;

use crate::Runtime;

/// Makes the runtime under test.
pub type MakeRuntime<'a> = &'a dyn Fn() -> Arc<dyn Runtime>;

/// Makes the macro from the list, so that no adapter can leave a test out.
macro_rules! suite {
    ($dollar:tt $($group:ident :: $name:ident,)*) => {
        /// Defines all tests for the runtime that an expression makes.
        #[macro_export]
        macro_rules! conformance {
            ($dollar runtime:expr) => {
                $(
                    #[test]
                    fn $name() {
                        $crate::conformance::$group::$name(&|| ::std::sync::Arc::new($dollar runtime));
                    }
                )*
            };
        }
    };
}

suite! { $
    runtime::a_timer_fires_and_can_be_moved,
    runtime::tasks_run_side_by_side,
    runtime::a_socket_says_when_it_is_ready,
    starting::a_node_starts_and_stops_and_frees_what_it_held,
    starting::dropping_the_last_handle_ends_the_node,
    starting::a_busy_port_is_one_clear_line,
    starting::two_nodes_do_not_share_a_state,
    starting::a_damaged_state_is_refused_and_left_alone,
    starting::a_state_of_another_version_is_refused_with_the_way_out,
    starting::a_foreign_state_is_refused,
    starting::a_directory_that_cannot_be_written_is_refused,
    starting::a_server_without_cluster_refuses_to_start,
    messages::a_message_arrives_and_its_outcome_comes_back,
    messages::delivered_means_taken_by_the_application,
    messages::one_message_reaches_many,
    messages::many_small_messages_keep_their_order,
    messages::a_batch_is_its_messages_one_after_another,
    messages::a_large_message_arrives_whole,
    messages::a_message_to_an_unknown_id_fails_with_the_reason,
    messages::a_full_queue_gives_the_message_back_and_says_when_there_is_room,
    messages::a_request_gets_one_answer,
    messages::datagrams_pass,
    messages::a_stream_carries_bulk_both_ways,
    messages::peers_talk_through_a_server,
    messages::messages_pass_over_ipv6,
    master::what_is_for_the_master_reaches_it,
    master::without_a_master_nothing_is_accepted,
    master::a_guard_ends_when_the_office_is_given_up_or_handed_over,
    master::a_message_taken_after_the_office_ended_has_failed,
    master::a_server_leaves_and_ends,
    faults::peers_come_and_go_in_the_directory,
    faults::a_lost_server_suspends_and_its_return_resumes,
    faults::a_peer_returns_from_its_state_without_an_introducer,
    faults::a_server_returns_to_its_cluster_whatever_its_flags,
    faults::strangers_get_no_byte,
}
