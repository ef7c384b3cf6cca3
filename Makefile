# Each target makes what it needs, in .venv and build/; nothing else on the machine is touched.
#
#   make demo   the quick benchmark: fastpool against the standard executors, in under half a minute
#   make test   all tests: Python and C
#   make soak   the test of chaos, for ten minutes (SOAK=600) and a seed of its own (SEED=...); make test has twenty seconds of it
#   make lint   ruff, mypy, stubtest, cython-lint
#   make bench  the full benchmark, with a plot in build/bench.png
#   make peers  fastpool against OpenMP, oneTBB, Go, numba and others, with a plot in build/peers.png: benchmarks/README.md
#   make c-tests, c-sanitizers, c-model   the C core alone: plain; under TSan, ASan and UBSan; under the model checker
#   make clean  removes all of it
#
# PYTHON chooses the interpreter (default python3), CC the compiler.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
SOURCES := $(wildcard csrc/*.[ch] fastpool/include/*.h fastpool/*.pyx fastpool/*.p[yx][dxi] fastpool/_*.[ch]) setup.py pyproject.toml
EXAMPLES := $(addprefix fastpool/,__init__.py pool.py _submitter.py group.py trace.py kernel.py kernels.py _signatures.py \
    bench/units.py prometheus.py opentelemetry.py)
EXTRA = $(BIN)/python -c 'import sys, tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"][sys.argv[1]], sep="\n")'
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test soak lint bench peers c-tests c-sanitizers c-model clean

demo: $(STAMPS)/built $(STAMPS)/extra-bench
	$(BIN)/python -m fastpool bench --quick

test: $(STAMPS)/built $(STAMPS)/extra-test $(STAMPS)/extra-sources c-tests
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest -q --doctest-modules $(EXAMPLES)

soak: $(STAMPS)/built $(STAMPS)/extra-test
	cd tests && PYTHONPATH=. $(CURDIR)/$(BIN)/python -m chaos --seconds $(or $(SOAK),600) $(if $(SEED),--seed $(SEED))

lint: $(STAMPS)/built $(STAMPS)/extra-test $(STAMPS)/extra-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(BIN):$$PATH" $(BIN)/cython-lint --max-line-length 128 fastpool examples
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest fastpool._core --allowlist tests/typing/stubtest-allowlist.txt

bench: $(STAMPS)/built $(STAMPS)/extra-bench $(STAMPS)/extra-plot
	mkdir -p build
	$(BIN)/python -m fastpool bench --plot build/bench.png --json build/bench.json

peers: $(STAMPS)/built $(STAMPS)/extra-bench $(STAMPS)/extra-plot $(STAMPS)/extra-peers
	mkdir -p build
	$(BIN)/python -m benchmarks.peers --plot build/peers.png --json build/peers.json

c-tests:
	$(MAKE) -C tests/c test

c-sanitizers:
	$(MAKE) -C tests/c tsan asan posix

c-model:
	$(MAKE) -C tests/c relacy

$(STAMPS)/venv:
	$(PYTHON) -m venv $(VENV) || { echo "make: python3-venv is missing: apt-get install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	$(PIP) install --upgrade pip "setuptools>=77" "cython>=3.1" "numpy>=2.0"
	mkdir -p $(STAMPS) && touch $@

# The build's output is kept: CI looks through it for warnings.
$(STAMPS)/built: $(STAMPS)/venv $(SOURCES)
	mkdir -p build
	$(PIP) install --no-build-isolation --no-deps --editable . --verbose >build/build.log 2>&1 || { cat build/build.log; exit 1; }
	touch $@

$(STAMPS)/extra-%: $(STAMPS)/venv pyproject.toml
	$(EXTRA) $* >$(STAMPS)/$*.txt
	$(PIP) install -r $(STAMPS)/$*.txt
	touch $@

# Each alone and only as a wheel: an interpreter that has none (numba's lag behind) goes without, and the tests and the
# comparison skip it.
$(STAMPS)/extra-sources $(STAMPS)/extra-peers: $(STAMPS)/extra-%: $(STAMPS)/venv pyproject.toml
	$(EXTRA) $* | while read -r one; do \
	    $(PIP) install --only-binary :all: "$$one" || echo "make: going without $$one"; done
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info fastpool/*.so fastpool/_core.c
