# SPDX-License-Identifier: GPL-3.0-or-later
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

# The tools of the virtual environment come first, also for what they start themselves.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.collections

LAB ?= demo
# The longest first. What does not fit into the half hour of `make test` is for the night.
SCENARIOS ?= default pair transport routed
NIGHTLY ?= ipv6 monitoring access clients cloud trixie client snat rotate upgrade interrupted abuse
JOBS ?= 3
VENV := .venv/.stamp
DAEMONS = $(patsubst %/__init__.py,%,$(wildcard roles/*/files/*/__init__.py))
empty :=
space := $(empty) $(empty)

.PHONY: help
help: ## Show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r target text; do printf '%-16s%s\n' "$$target" "$$text"; done

.PHONY: os-deps
os-deps: ## Install the Debian packages that are missing
	@lab/os-deps

.PHONY: venv
venv: $(VENV) ## Create .venv with every tool at its pinned version

# The distribution's Python first: a shim earlier in PATH may have no version behind it.
$(VENV): requirements-dev.txt | os-deps
	@for python in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do \
	  "$$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && break; \
	  python=; \
	done; \
	[ -n "$$python" ] || { echo 'no Python 3.11 or newer with ensurepip' >&2; exit 1; }; \
	"$$python" -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	touch $@

.PHONY: lint
lint: $(VENV) ## Check style, types, roles, changelog and argument specifications
	yamllint --strict .
	ruff check
	ruff format --check
	MYPYPATH=.collections mypy --package ansible_collections.wirefleet.vpn.plugins
	MYPYPATH=$(subst $(space),:,$(sort $(dir $(DAEMONS)))) mypy $(DAEMONS)
	mypy lab bench tests/lint
	MYPYPATH=tests:lab mypy tests/traffic molecule/conftest.py
	ansible-lint
	ansible-doc --type filter $(patsubst plugins/filter/%.py,wirefleet.vpn.%,$(wildcard plugins/filter/*.py)) > /dev/null
	ansible-doc --type lookup $(patsubst plugins/lookup/%.py,wirefleet.vpn.%,$(wildcard plugins/lookup/*.py)) > /dev/null
	ansible-doc $(patsubst plugins/modules/%.py,wirefleet.vpn.%,$(wildcard plugins/modules/*.py)) > /dev/null
	antsibull-changelog lint
	python tests/lint/argument_specs.py
	python tests/lint/role_tables.py
	vermin --quiet --target=3.9- --no-tips --violations plugins/modules plugins/module_utils $(DAEMONS)
	reuse lint --lines
	check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	mkdocs --quiet build --strict

.PHONY: docs
docs: $(VENV) ## Make the tables of the roles' READMEs, and the documentation's site in build/site
	python tests/lint/role_tables.py --write
	mkdocs --quiet build --strict

.PHONY: sanity
sanity: build ## Run all of ansible-test sanity on the built archive (minutes)
	tests/release/sanity build/wirefleet-vpn-*.tar.gz

.PHONY: importer
importer: build ## Judge the built archive as Galaxy and the site of Ansible's collections do
	tests/release/importer build/wirefleet-vpn-*.tar.gz

.PHONY: unit
unit: $(VENV) ## Run the unit tests, and the parsers on inputs that nobody wrote
	pytest tests/unit tests/fuzz

.PHONY: matrix
matrix: ## Run the plugins' unit tests with ansible-core 2.16 to 2.21 on Python 3.11 to 3.13, as far as these are here
	tests/release/matrix

.PHONY: fuzz
fuzz: $(VENV) ## Search for inputs that break a parser (SECONDS=60 for each, TARGETS="ledger agent_answer")
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements-fuzz.txt
	@broken=; for name in $(or $(TARGETS),$(notdir $(wildcard tests/fuzz/corpus/*))); do \
	  echo "== $$name"; python -m tests.fuzz.search "$$name" $(or $(SECONDS),60) || broken+=" $$name"; \
	done; \
	[ -z "$$broken" ] || { echo "make fuzz: something was found in$$broken" >&2; exit 1; }

.PHONY: molecule
molecule: $(VENV) ## Run the Molecule scenarios on real hosts, JOBS=3 at once (SCENARIOS="default pair")
	$(MAKE) --jobs=$(JOBS) --output-sync=target $(SCENARIOS:%=molecule-%)

# Each has a lab of its own, and mostly waits. What failed is said once more at the end, where people look first.
.PHONY: $(SCENARIOS:%=molecule-%)
$(SCENARIOS:%=molecule-%): molecule-%: $(VENV)
	@mkdir -p .cache
	molecule test --scenario-name $* 2>&1 | tee .cache/$@.log || { molecule/shared/failures .cache/$@.log >&2; exit 1; }

# The unit tests come next to what takes longest, or there would be nothing beside them in the end.
FIRST = $(wordlist 1,$(JOBS),$(SCENARIOS:%=molecule-%))
.PHONY: test
test: lint ## Run all that half an hour has room for
	$(MAKE) --jobs=$(JOBS) --output-sync=target $(FIRST) unit $(filter-out $(FIRST),$(SCENARIOS:%=molecule-%))

.PHONY: nightly
nightly: $(VENV) ## Run the rest: more scenarios, other versions of Ansible, release checks, a longer search for bad inputs
	$(MAKE) molecule SCENARIOS="$(NIGHTLY)"
	$(MAKE) matrix sanity importer fuzz

.PHONY: demo
demo: $(VENV) ## Build a cluster in the lab, break it, and show what clients notice
	python lab/demo.py

.PHONY: demo-down
demo-down: $(VENV) ## Remove the demo
	python lab/lab.py down demo

.PHONY: lab-up
lab-up: $(VENV) ## Start the hosts of a lab (LAB=demo)
	python lab/lab.py up $(LAB)

.PHONY: lab-down
lab-down: $(VENV) ## Remove the hosts of a lab (LAB=demo)
	python lab/lab.py down $(LAB)

.PHONY: bench-keys
bench-keys: $(VENV) ## Measure key generation
	python bench/keys.py

.PHONY: bench-allocate
bench-allocate: $(VENV) ## Measure address allocation
	python bench/allocate.py

.PHONY: bench-steer
bench-steer: $(VENV) ## Measure packets through the balancer, beside plain routing, DNAT and nginx
	python bench/steer.py

.PHONY: bench-failover
bench-failover: $(VENV) ## Measure what clients notice of failures, in the labs `bench` and `pair` (N=10)
	python bench/failover.py --repetitions $(or $(N),10)

.PHONY: bench-drain
bench-drain: $(VENV) ## Measure the drain of a node with 50 busy clients, in the lab `bench` (N=3)
	python bench/drain.py --repetitions $(or $(N),3)

.PHONY: bench-transport
bench-transport: $(VENV) ## Measure throughput over UDP, and over TCP by v2ray and by sing-box, in the lab `transport` (N=3)
	python bench/transport.py --repetitions $(or $(N),3)

.PHONY: healthy-hour
healthy-hour: $(VENV) ## Watch the lab `monitoring` while nothing is wrong: no alert may fire (HOURS=1)
	python bench/healthy.py --hours $(or $(HOURS),1)

.PHONY: bench-converge
bench-converge: $(VENV) ## Measure runs with 10 to 10,000 clients in the lab `converge`, beside PEER_ROLE=a checkout of githubixx.ansible_role_wireguard
	python bench/converge.py $(if $(PEER_ROLE),--peer-role "$(PEER_ROLE)")

.PHONY: build
build: $(VENV) ## Build the collection's archive into build/
	ansible-galaxy collection build --force --output-path build

.PHONY: clean
clean: ## Remove what can be made again, but no running lab
	rm -rf .venv .ansible .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache build tests/output
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
