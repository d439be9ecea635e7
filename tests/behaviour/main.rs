//! What twistor does, one module a module of the runtime. A test that shows a row of `tests/conformance/` carries its id in its name.
mod cancelling;
mod clock;
mod conformance;
mod coroutine;
mod deferred;
mod endpoints;
mod failure;
mod futures_inside;
mod gather;
mod lines;
mod protocols;
mod reactor;
mod support;
mod tcp;
mod timeout;
