# `make quick` while you work, `make check` before you hand in.

# The packages with files that differ from the last commit. A change of the runtime or the macros
# concerns the tests too.
DEPENDENTS = -p twistor -p twistor-macros -p twistor-examples -p twistor-tests -p twistor-ui-tests
CHANGED = $(shell git status --porcelain | awk '{print $$2}' | sed -nE \
	-e 's|^(runtime\|macros)/.*|$(DEPENDENTS)|p' \
	-e 's|^tests/ui/.*|-p twistor-ui-tests|p' \
	-e 's|^(tests\|guide)/.*|-p twistor-tests|p' \
	-e 's|^examples/suite/.*|-p twistor-suite|p' \
	-e 's|^examples/.*|-p twistor-examples -p twistor-tests|p' \
	| sed 's/ -p /\n-p /g' | sort -u | paste -sd' ')

.PHONY: quick check stderr api
quick:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	$(if $(strip $(CHANGED)),cargo test $(CHANGED),@echo "nothing has changed")

check:
	bash .ci/run

# Refreshes the compiler messages of the ui tests, and the snapshots of generated code. Read the
# difference before you commit it.
stderr:
	TRYBUILD=overwrite cargo test -p twistor-ui-tests
	TWISTOR_SNAPSHOTS=overwrite cargo test -p twistor-macros
	TWISTOR_SNAPSHOTS=overwrite cargo test -p twistor-tests --test behaviour traceback

# Refreshes the committed copy of the public API.
api:
	.ci/public-api > runtime/public-api.txt
