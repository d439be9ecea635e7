//! What twistor does, one module a module of the runtime. A test that shows a row of `tests/conformance/` carries its id in its name.
#![allow(clippy::items_after_statements, reason = "a test's own functions and types stand where they are used")]
#![allow(clippy::similar_names, reason = "the two ends of a thing have similar names")]
mod cancelling;
mod clock;
mod conformance;
mod consumers;
mod cooperate;
mod coordination;
mod coroutine;
mod deferred;
mod depth;
mod endpoints;
mod failure;
mod flow;
mod futures_inside;
mod gather;
mod half_close;
mod lines;
mod lists;
mod lockfile;
mod looping;
mod model;
mod own_tests;
mod protocols;
mod reactor;
mod regression;
mod support;
mod task_ends;
mod tcp;
mod threads;
mod timeout;
mod timers;
mod traceback;
mod triggers;
