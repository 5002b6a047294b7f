# The two commands are `make book` and `make test`; each sets itself up, and both are safe to repeat and to interrupt.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PEERS := .venv/.peers
# One thread and one instruction set: the text that a notebook prints is then the same on every run (see tests/notebooks).
FIXED := OMP_NUM_THREADS=1 MKL_CBWR=AVX2 ATEN_CPU_CAPABILITY=$(or $(ATEN_CPU_CAPABILITY),avx2) DNNL_MAX_CPU_ISA=AVX2 PYTHONHASHSEED=0 \
	NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL AVX512_SPR"

.PHONY: book test long lint types nbval lab notebooks reproduce bench clean help

help:            ## what there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile

# The stamp is written last: an interrupted installation is taken up again.
$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(None if sys.version_info >= (3, 11) else 'Python 3.11 or newer is needed, this is ' + sys.version.split()[0])"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX_URL),$(BIN)/python -m pip install -q --index-url $(TORCH_INDEX_URL) $$(grep '^torch==' requirements.txt))
	$(BIN)/python -m pip install -q -r requirements.txt
	$(BIN)/python -m pip install -q -e . --no-deps
	@touch $(READY)

# Other libraries that tests and benchmarks compare with; their own dependencies would bring a second, larger torch.
$(PEERS): requirements-peers.txt $(READY)
	$(BIN)/python -m pip install -q --no-deps -r requirements-peers.txt
	@touch $(PEERS)

book: $(READY)   ## build the book, print the address of its first page
	$(BIN)/python tools/site.py --open

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## only: types of both packages
	$(BIN)/basedpyright

test: lint types $(PEERS)  ## lint, types, unit tests, notebooks, the built pages in a browser
	$(BIN)/python tools/browser.py
	$(BIN)/python tools/site.py
	env -u NNLIB_DATA -u NNLIB_RESULTS $(FIXED) $(BIN)/python -m pytest -n 2 --dist worksteal

long: $(PEERS)   ## what test leaves out: a thousand bad inputs a call; every mutation; bounds of 100,000 random networks
	env -u NNLIB_DATA -u NNLIB_RESULTS $(FIXED) $(BIN)/python -m pytest -n 2 tests/nnlib/test_bad_input.py --hypothesis-profile=long
	env -u NNLIB_DATA -u NNLIB_RESULTS $(FIXED) $(BIN)/python tools/mutate.py
	$(FIXED) $(BIN)/python tools/fuzz_lipschitz.py --networks 100000
	$(FIXED) $(BIN)/python benchmarks/timm_models.py

nbval: $(READY)  ## only: every notebook run again and compared with what is committed
	env -u NNLIB_DATA -u NNLIB_RESULTS $(FIXED) $(BIN)/python -m pytest -n 2 tests/notebooks -k again

lab: $(READY)    ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab book

notebooks: $(READY)  ## write the numbers of the records into the sentences, execute all notebooks and normalise them
	$(BIN)/python tools/prose.py --write $(CHAPTER)
	env -u NNLIB_DATA -u NNLIB_RESULTS $(FIXED) $(BIN)/python tools/notebooks.py execute $(CHAPTER)

reproduce: $(READY)  ## run what a chapter has not recorded, judge its claims, run its notebook: CHAPTER=nqm PROFILE=laptop TABLE= ROWS=
	$(BIN)/python -m tenpapers reproduce $(CHAPTER) --profile $(or $(PROFILE),laptop) $(if $(TABLE),--table $(TABLE)) $(if $(ROWS),--rows "$(ROWS)")
	$(BIN)/python -m tenpapers claims $(CHAPTER) --record
	$(BIN)/python tools/notebooks.py run $(CHAPTER) $(or $(PROFILE),laptop)

bench: $(PEERS)  ## speed and memory, as ratios
	for file in benchmarks/*.py; do OMP_NUM_THREADS=1 $(BIN)/python $$file || exit 1; done

clean:           ## remove what was built (the virtual environment stays: delete .venv yourself)
	rm -rf _build .cache .pytest_cache .ruff_cache
