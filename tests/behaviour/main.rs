//! The behaviour of twistor, with one module for each module of the runtime. A test that shows a
//! row of `tests/conformance/` has its id in its name.
#![allow(
    clippy::items_after_statements,
    reason = "a test's own functions and types stand where they are used"
)]
#![allow(clippy::similar_names, reason = "the two ends of a thing have similar names")]
mod adopt;
mod attempts;
mod cancelling;
mod clock;
mod closing_a_reactor;
mod conformance;
mod connector;
mod consumers;
mod cooperate;
mod coordination;
mod corking;
mod coroutine;
mod deferred;
mod depth;
mod descriptors;
mod endpoints;
mod failure;
mod fakes;
mod flow;
mod futures_inside;
mod gather;
mod half_close;
mod lines;
mod lists;
mod lockfile;
mod looping;
mod model;
mod names;
mod own_tests;
mod pipes;
mod ports;
mod producers;
mod protocols;
mod reactor;
mod sources;
mod spare;
mod support;
mod task_ends;
mod tcp;
mod threads;
mod timeout;
mod timers;
mod traceback;
mod triggers;
mod udp;
mod udp_endings;
mod unix;
mod user_code;
mod waiting_handlers;
mod waking;
