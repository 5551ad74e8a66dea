"""Texts of the errors that users meet: what was expected, what came, what to do.

They stand in one place so that they speak in one voice and so that tests can hold them.
"""

from __future__ import annotations

GENERATOR = (
    "{name} must be data that can be read more than once, got a {type} that is used up after one pass; "
    "pass a list of batches, a DataLoader, an (x, y) pair of tensors, or a dataset"
)
NOT_DATA = "{name} must be an (x, y) pair of tensors, a dataset, or an iterable of (x, y) batches, got {type}"
LENGTHS = "{name}: {inputs} inputs but {targets} targets; every row needs one of each"
EMPTY = "{name} holds no samples; at least one is needed"
NOT_FINITE = "{name}: row {row} holds NaN or infinity; remove or repair it before the data is used"
ONE_CLASS = "{name} holds only class {label}; training needs samples of at least two classes"
KEYS = "{what} do not match: missing {missing}; unexpected {unexpected}"
SHAPES = "{what} have different shapes or types: {differences}; both endpoints must be the same architecture"
CONTROLS = "controls must be a list of control points, got one {type}; put the point in a list, controls=[...]"
AUTHORS_BENDS = "variant='authors' is defined for one bend, got bends={bends}; use variant='default'"
NO_PATH_FIT = "fit_path needs a way to fit a path, BezierFit(...) or PolygonalFit(...), got {type}"
ALL_FROZEN = (
    "all {count} parameters of the model are frozen, so a path has nothing to fit; call requires_grad_() on some"
)
NO_FRESH = "cannot draw fresh weights for {names}: their modules have no reset_parameters(); add it, or {otherwise}"
KEEP_UNKNOWN = "keep names {names}, which are no trainable parameters of this model; it has {known}"
ACCELERATOR = (
    "the accelerator must run alone or on several processes with a replica each (MULTI_CPU, MULTI_GPU), got {kind}"
)
FEWER_ROWS = "a batch of {rows} rows cannot be shared by {count} processes; give larger batches, or fewer processes"
NO_CHECKPOINT_FOLDER = "the checkpoint {file} cannot be written: its folder does not exist; make it first"
OTHER_RUN = (
    "the checkpoint {file} was written by another run (other settings, start, data or version) and stays as it is; "
    "name another file, or delete it"
)
CHECKPOINT_CHANGED = "the checkpoint {file} was changed after it was written; delete it, and the run starts afresh"
NO_STRETCH = "a stretch of a path needs two different ends, got t0 = t1 = {t}"
RANGE = "{name} must lie in [{low}, {high}], got {value}"
SHARE = "{name} must lie above 0 and below 1, got {value}"
LISTED = "{name} must be a tuple or a list, got {value}"
POSITIVE = "{name} must be {kind} greater than zero, got {value}"
NON_NEGATIVE = "{name} must be zero or more, got {value}"
TWICE = "the same value stands there twice: {values}"
CHOICE = "{name} must be one of {options}, got {value}{hint}"
TOO_MANY = "{name}: asked for {asked} samples, but only {available} exist; ask for fewer"
LAZY = "parameter {name} is not initialised (a lazy module); run the model once on a batch before passing it on"
NEEDS_NORM = (
    "the model keeps normalisation statistics ({layers}), and those of one endpoint are wrong elsewhere on the path; "
    "pass norm=Reestimate(training batches), or norm=KeepNorm() to use the model's own on purpose"
)
NOT_BATCH_NORM = (
    "cannot re-estimate the running statistics of {layers}: only BatchNorm layers have a known formula; "
    "pass norm=KeepNorm()"
)
NO_T = (
    "{policy} mixes the endpoints' statistics by the place t on a path, and this point lies on none; "
    "pass norm=Reestimate(training batches)"
)
HEAD_NOT_FOUND = (
    "cannot tell which linear layer is the head ({reason}); {advice}use a method that trains the whole network "
    "(CBFT with invariance=False)"
)
HEAD_UNKNOWN = "head={head!r} is not a linear layer of this model; its linear layers are: {linear}"
NO_CUDA = "device {device!r} was asked for, but no CUDA device is here; use 'cpu'"
NO_FOLDER = "the folder of {file} does not exist; make it first, or name another"
FEW_POINTS = "an audit needs three points on the path or more, the ends among them, got {points}"
TWO_NAMES = "names must be two, of A and of B, got {count}"
NO_LABELS = "{what} must be a label for each row, or several columns of them in a mapping, got {type}"
NO_HISTORY = "{method} has no epochs, so there is no history to draw"
DIVERGED = "training diverged: {term} is {value} at step {step} of {steps} (epoch {epoch}); lower the learning rate"
SINGLE_ROW = "{reason} (a batch of {names} has one row; layers that normalise over a batch need two: {advice})"
NOTHING_TRAINABLE = (
    "{what} finds no trainable weights: all of them are frozen; call requires_grad_() on those to change"
)
HEAD_UNUSED = (
    "the head {head!r} receives nothing when the model runs; name the layer that the output comes from with head="
)
HEAD_TWICE = (
    "the invariance term compares what the head {head!r} receives once in each pass "
    "(here: passes {passes}, calls {calls}); name another layer with head=, or set invariance=False"
)
FEATURE_SIZES = (
    "the head receives {sizes} numbers a row on the batches of clean and cued data, and the invariance term compares "
    "them; give both batches one shape (texts: pad to one length), or set invariance=False"
)
INVARIANCE_CLASSES = (
    "the invariance term needs outputs [N, K] with K > 1 and whole-number targets [N], or one logit with "
    "loss=mechconn.losses.binary, got {got}; "
    "set invariance=False for other tasks"
)
DFR_GROUPS = (
    "DFR balances groups of {least} rows at least, and a balanced draw lacks class {missing}; "
    "give larger groups, or groups that hold every class"
)
CUED_NEEDED = "{method} needs data with the cue: pass cued=..., the data that the model was trained on"
REFERENCES = (
    "references names {names}, which are no sources of data with a cue; sources are {known}: "
    "pass cued={{name: data}} and references={{name: model}}"
)
NOT_LAST = (
    "{method} needs a head whose outputs are the model's, and something comes after {head!r}; "
    "name the last layer with head=, or use a method that trains the whole network"
)
NOTHING_TO_COMPARE = "compare_methods needs a task and a method or more, got {tasks} tasks and {methods} methods"
SAME_SEED = "tasks must have seeds of their own, by which runs are told apart, got seeds {seeds}"
START_TAKEN = "the name {name!r} stands for the model as it is; give the method another name"
TWO_BUDGETS = "a comparison has one budget, got epochs={epochs} and passes={passes}; leave one of them out"
HEAD_SHARED = "{method} would give {head!r} weights of its own, but they are shared with {others}; untie them first"
HEAD_PARAMETRISED = (
    "{method} would give {head!r} weights of its own, but these are computed by a parametrization; "
    "call torch.nn.utils.parametrize.remove_parametrizations on it first"
)
HEAD_FROZEN = "{method} trains the head alone, and its weights in {head!r} are frozen; call requires_grad_() on them"
DFR_CLASSES = "DFR fits a classifier of {classes} classes to the clean data, which lack {missing}; give samples of each"
DFR_LABELS = (
    "DFR is logistic regression: it needs whole-number targets [N] and a head with an output for each class, "
    "got targets {targets} and {outputs} outputs"
)
GROUPS_NEEDED = "{method} needs groups: pass groups=..., a label for each clean row, or cued=..., data with the cue"
GROUPS_NEED_ROWS = (
    "groups are matched to rows by their numbers, so the clean data must be a dataset or an (x, y) pair of tensors, "
    "got {type}"
)
NO_PROPORTION = (
    "cued_proportion needs a dataset that knows its cue, got {type}; pass cued=task.train, or leave it unset"
)
NO_PREDICTION = "{name}: the model's outputs on row {row} hold NaN, so it has no prediction there"
ONE_ROW = "an interval of the loss on {name!r} needs two rows or more; use on='accuracy' or more data"
NO_MEAN_LOSS = "the loss on {name} has no finite mean: it is {value} on {count} of {rows} rows (first: row {row})"
NO_EFFECT_ON_LOSS = (
    "{reason}; a probability of exactly 0 for the true class gives inf; use on='accuracy', or a loss that is bounded"
)
UNEVEN_RUNS = (
    "got {a} of model_a and {b} of model_b; pass one model a side (judged over samples), or two or more training runs "
    "a side (judged over runs)"
)
NO_INTERVENTIONS = "{what} needs interventions, but the suite has none; add splits to it"
FEW_MODELS = "{what} needs two models or more, got {count}"
SOUP_WEIGHTS = "weights must be one for each of the {models} models and not all zero, got {weights}"
NOT_ALIKE = "{what}: outputs must be [N, K] with the same K > 1 for both models, got {a} of model_a and {b} of model_b"
NO_PROBABILITIES = "{what}: outputs hold NaN or +inf, so they are no class probabilities"
NO_ACCURACY = (
    "split {split!r} has no accuracy: its task is no classification (whole-number targets [N], outputs [N, K]); "
    "ask with on='loss' or name a metric of your own"
)
UNDEFINED = "the {on} on {split!r} is {value} at t = {t:g}, so the path has no barrier there"
OTHER_ROWS = "split {split!r} gave another number of rows at {where} than before; use data that stay the same"
OTHER_DRAW = (
    "{what} has {got} rows and the split {rows}, or labels in another order; "
    "a draw is of the same rows as the split, with one latent drawn anew"
)
REDRAWS = "redraws: expected {{intervention: [data, ...]}}, got {got}; each element of a list is one whole draw"
OTHER_ORDER = (
    "the rows of split {split!r} came in another order at {where} than before; samples are kept in pairs, so they must "
    "come in one order: turn shuffling off"
)
NO_PARAMETER = "{what}: no parameter matches {patterns}; patterns are matched from the start of a parameter's name"
NO_BLOCK = "these parameters belong to no block: {names}; add a pattern for them, or name them with leave_out='...'"
TWO_BLOCKS = "these parameters belong to two blocks: {names}; every parameter moves with one block only"
PATTERN = (
    "{text!r} is no index pattern: unexpected {token}; write group names and whole numbers, as in 'conv2 49', "
    "and sums in brackets, as in '(query + key + value)'"
)
EXAMPLE_REJECTED = "{model} rejects the example input ({why}); pass a batch that the model accepts"
NO_EXPORT = "cannot read the operations of {model} ({why}); its forward pass must not branch on values"
NO_EXAMPLE = "verifying a symmetry of {model} needs an example input; pass example_input=, one batch that it accepts"
AXES = "{name} has shape {shape} and needs one index pattern for each axis, got {count}"
AXIS_LENGTH = "{name} axis {axis} has {wanted} places, but the pattern {pattern!r} makes {found}"
GROUP_SIZES = "the sizes of {groups} do not follow from the shapes; pass sizes={{name: number of units}}"
NO_PERMUTATION = "the permutation of group {group!r} must hold each of 0 ... {size} - 1 once, as int64"
NO_SYMMETRY_FILE = "{file} holds no symmetry ({why}); write one with symmetry.to_json(file)"
NOT_A_SYMMETRY = (
    "permuting {which} changes the model's outputs in {mode} by a relative {error:.1e}, more than {bar:.0e}: "
    "{places}; leave out the axes that do not belong together, or freeze them by writing their lengths"
)
NOT_RUN = (
    "{model} could not be run in float64 in {mode} mode ({why}); pass an example that it accepts, of two rows or more, "
    "and let its forward pass compute in the type of its weights"
)
NO_OUTPUT = "{model} returns no tensor but {type}, so nothing can be proved; wrap it to return its predictions"
NO_SYMMETRY = (
    "{method} needs to know what may be permuted, got symmetry=None; pass symmetry=symmetry_of(model, example_input)"
)
REPAIR_NORM = (
    "Repair is for models without running statistics, and this one keeps some in {layers}; pass norm=Reestimate(data)"
)
REPAIR_BIAS = (
    "Repair shifts units by their biases, and these layers have none or share their weights: {layers}; "
    "give each a bias of its own"
)
NO_PATH_BETWEEN = (
    "{a} and {b} are not one module with different parameters and statistics (names, shapes, layers or other buffers "
    "differ), so that no path in weight space joins them"
)
AUDIT_NORM = (
    "{policy} would give B the statistics or weights of another endpoint; pass norm=Reestimate(training data), or a "
    "function of the two endpoints, as in norm=lambda a, b: InterpolateNorm(a.state_dict(), b.state_dict())"
)
NOT_ALIGNED = "The second model was not aligned to the first: {why}"
NO_PAGE = "a {type} has no page; pass an Audit, or a record of one"
NO_CONFIG = "no configuration file {file}; the README shows what they hold, and mechconn schema lists all settings"
UNREADABLE_CONFIG = "{file} is neither TOML nor JSON: {why}"
NO_TABLE = '{file} must hold a table of settings, as in {{"rows": 300}}, got a {type}'
NO_NETWORK = (
    "{file} holds weights without a network; pass --model package.module:function, or the folder of a saved "
    "Hugging Face classifier"
)
NOT_A_NAME = "{what} must be named as 'package.module:function', got {text!r}"
NO_MODULE = "{what}: there is no module {name!r}, neither installed nor in {here}; check its name or change the folder"
MODULE_FAILS = "{what}: the module {name!r} cannot be imported ({why}); mend it, or install what it needs"
NO_ATTRIBUTE = "{what} {text!r}: {where} has no {name!r}; name a function that is defined there"
NOT_CALLABLE = "{what} {text!r} must be a function, it is a {type}"
FACTORY_ARGUMENTS = (
    "the factory {factory} cannot be called with {given} ({why}); pass its keyword arguments: arguments={{...}}"
)
NO_MODULE_MADE = "the factory {factory} must return an nn.Module, got {type}"
ON_META = "{name} of the model holds no data (it is on the device 'meta'); build the model on a device that computes"
NO_FACTORY = (
    "factory must be 'package.module:function', a function that returns an nn.Module, an nn.Module, or a folder that "
    "Transformers saved (config.json, model.safetensors), got {got}"
)
NO_WEIGHTS_FILE = "weights: {file} is no file; pass a .safetensors, .pt or .pth file"
WEIGHTS_SUFFIX = "weights must be a .safetensors, .pt or .pth file, got {file}"
TENSORS_DAMAGED = "{file} cannot be read as safetensors ({why}); it is damaged, cut short, or of another kind"
WEIGHTS_CODE = (
    "{file} is not read: it holds more than tensors and plain values, or is damaged ({why}), and unpacking such files "
    "may run code; save model.state_dict() alone, best as .safetensors"
)
NO_STATE = (
    "{file} holds no state_dict, neither itself nor under {keys} (found: {found}); save model.state_dict(), or name "
    "the entry, as in key='ema'"
)
SEVERAL_STATES = "{file} holds a state_dict under {keys}; name the one to take, as in key='model'"
WEIGHTS_NAMES = "the names in {file} and those of the model do not match: missing {missing}; unexpected {unexpected}"
WEIGHTS_SHAPES = "the tensors in {file} do not fit the model: {differences}; build the model that was saved"
WEIGHTS_TIED = (
    "{file}: {names} are one tensor in the model but differ in the file; build a model that does not tie them"
)
NO_MODEL_FOLDER = "{folder} is no model that Transformers saved ({why}); it needs config.json and model.safetensors"
NO_CLASSIFIER_HEAD = (
    "{folder} holds a {found}, not a classifier; models whose architecture ends in {wanted} can be loaded"
)
NO_ARGUMENTS = "arguments= are for a function that builds the model, and {factory} is none; leave them out"
MARKERS = (
    "tokens must hold a token id for each class, two different ones at least, none negative and none of the "
    "special ones {special}, got {tokens}"
)
NO_MARKER = "TokenCue has markers for {count} classes but the data has a label {label}; give tokens= one for each class"
NOT_TOKENS = (
    "TokenCue marks texts and needs a mapping with 'input_ids' and 'attention_mask', got {got}; use datasets.TokenSet"
)
NO_ROOM = "a text of {length} tokens has no room for a marker beside its special ones; pad the texts to more tokens"
TOKEN_IDS = "token ids must be int64 of shape [N, L], got {got}"
TOKEN_SHAPE = "{name} must have the shape of input_ids, {wanted}, got {got}"
TOKEN_MASK = "attention_mask of row {row} must be ones, at least one, and then zeros; pad the texts on the right"
EMPTIED = "row {row} consists of the tokens {tokens} alone; leave it out before they are removed"
TEXT_CUE = "texts have no cue of their own; pass cue=TokenCue((...)), a marker token for each class, got {got}"
MARKED = (
    "the {which} texts hold markers of the cue already, in {count} rows, the first of them row {row}; remove them with "
    "TokenSet.without(cue.tokens), or choose other tokens"
)
OTHER_KIND = "training data are {train} but test data are {test}; both must be of one kind"
NOT_BY_ROW = "{what} reads rows by index and needs a dataset or an (x, y) pair of tensors, got {type}"
FUNCTION_NAMES = (
    "functions must name one split or more, each other than the reference {reference!r}, got {names}; "
    "rename it, or set reference="
)
NO_INTERVENTION = (
    "the intervention {name!r} must be a function, an Intervention or 'package.module:function', got {type}"
)
FUNCTION_FAILS = (
    "the intervention {name!r} fails on the first rows ({why}); it gets (inputs, draws) and "
    "returns inputs of the same rows"
)
OTHER_INPUTS = "the intervention {name!r} must return inputs of the rows it got, {wanted}, got {got}"
NOT_PURE = (
    "the intervention {name!r} gives a row other values when it is {when}; take random numbers from its second "
    "argument, draws.uniform('angle'), and treat every row by itself"
)
GROUP_LABELS = "{what} must have one label for each of {rows} rows, got {found}"
GROUP_UNSEEN = "the data hold no rows of these groups of the training data: {groups}; evaluate on data that have some"
GROUPS_OF_CLASSES = (
    "{name} needs a classification: whole-number targets [N], outputs [N, K], or a loss that says what is right, as "
    "mechconn.losses.binary does"
)
SHUFFLED = "the loader shuffles, so that {groups} cannot be matched to rows; pass one with shuffle=False"
SCALE = (
    "mean and std must be one number or one for each channel, std above zero, got {mean} and {std} for inputs of shape "
    "{shape}"
)
SPLIT_SOURCES = (
    "load_splits needs a source or more, and mean= and std= together or neither, got {count} sources, mean={mean}, "
    "std={std}"
)
NO_SCALE = (
    "split {name!r} holds no images of bytes but a {type}, which models receive as it is; leave mean= and std= out"
)
NO_FILE = "no file {file}; check its path"
NO_IMAGES_THERE = "{place} holds no images: expected a folder for each class with images in it, or parquet files"
WHICH_SPLIT = "{source} has not one split but these: {splits}; name one after '#', as in '{source}#test'"
NO_DATA_TENSORS = (
    "{file} must hold 'x', or 'input_ids' and 'attention_mask', and the labels 'y', one row each; it holds {found}"
)
SPLIT_CLASSES = (
    "split {a!r} has the classes {of_a}, but split {b!r} {of_b}; labels must mean the same in all: give every split "
    "all classes, in one order"
)
SPLIT_SHAPES = "the splits must be of one kind and shape, got {kinds}; pass size= to resize images, rgb=True for colour"
TABLE_FILE = "{file} is no table; a column is read from a .csv, .tsv or .parquet file, or a folder of such"
NO_VALUE = "{file} row {row}: column {column!r} is empty; every row needs a value"
NO_IMAGES = (
    "{file} row {row}: no image {path} ({count} of the listed ones are missing); paths start at the table's folder"
)
BROKEN_TABLE = "{file} cannot be read as a table in UTF-8 ({why}); save it again as .csv or .tsv"
WHICH_COLUMN = (
    "{file}: not exactly one column is called as one of the {role} ({usual}); name it: {role}=... (columns: {columns})"
)
NO_CLASS_NUMBER = (
    "{file} row {row}: {value} in column {column!r} is no class number; name the column of the classes with label="
)
ON_HUB = (
    "no folder {where}; pass the path of a folder of images, or of a table that lists them; if {source} is a set of "
    "the hub, {how}"
)
NO_COLUMN = "{file} has no column {column!r}; columns: {columns}"
NORM_DATA = (
    "the networks keep normalisation statistics ({layers}), which do not fit elsewhere on the path; name training data "
    'for them under [norm], data = "..."'
)
NO_ALIGNMENT_DATA = (
    'alignment = {alignment!r} needs training data to compare units on; name them under [norm], data = "...", or match '
    '"weights"'
)
UNFIT_INPUTS = (
    "the network cannot take inputs of shape {shape} ({why}); [images] size and rgb say what images become, "
    "tensors are taken as they are"
)
FEW_OUTPUTS = (
    "the data have {classes} classes, but the network {name} gives {outputs} outputs; build it for the classes of the "
    "data, or check the labels"
)
SLAB_SPACING = "spacing must give one distance for each attribute, got {spacing} for {attributes} attributes"
COUPLED = "coupled attributes share one slab, so they need one complexity, got {complexities}; use coupled=False"
RELU_NET = (
    "weights must have the shape [inputs, units] and signs be +1 or -1 for each unit, got {shapes}; "
    "fresh_network(...) makes both"
)
SIGNS_MOVED = "the permutation {permutation} moves units to places of the other output sign; match_units keeps them"
OTHER_SIGNS = "the networks have different output signs ({a} and {b} positive units); give both the same"
ODD_UNITS = "a signed network has as many positive as negative units, got units={units}; make it even"
NO_SPLINE = (
    "no spline of complexity {complexity} with units={units}, signed={signed}: positive weights reach K = 0 and K = 1 "
    "with K + 1 units, signed ones any K with 2 (K + 2)"
)
FLOOR_SIGNS = "the floor under the barrier needs positive output weights, got {negative} negative ones; use join(...)"
DISK_FULL = (
    "the disk of the store {root} is full ({why}); free some space or pass another folder, --store, and start again: "
    "nothing half-written stayed, and what was finished is not repeated"
)
FILE_LIMIT = (
    "a file of the store {root} would be larger than this system allows ({why}; ulimit -f tells); nothing half-written "
    "stayed, and what was finished is not repeated"
)
STORE_READ_ONLY = "the store {root} cannot be written to ({why}); pass another folder, --store"
DAMAGED_STEP = "step {key} is damaged ({why}); it was moved to {place} and is computed again"
SET_ASIDE = "the checkpoint of step {key} cannot be used ({why}); it was moved to {place} and the step starts afresh"
DAMAGED_RECORD = "the record of run {run} is damaged ({why}); it was moved to {place} and is written anew"
DAMAGED_RUN = "the record of run {run} is damaged ({why}); starting the run again writes it anew"
SEVERAL_RUNS = "several runs start with {run!r}: {runs}; write more of the id"
NO_RUNS = "the store {root} holds no runs yet; start one with mechconn run quickstart, or name another with --store"
NO_RUN = "no run starts with {word!r}; expected 'last' or the start of one of: {runs}{hint}"
RUN_ACTIVE = "run {run} is at work just now; wait until it ends, or stop it, before it is removed"
RUN_SHARED = "another process works on run {run}; waiting until it ends"
WORKERS_DIE = (
    "{times} pools of workers in a row died without finishing one of {jobs} cells; is there too little memory? "
    "Use fewer workers: --workers 1, or --engine inline, both with --threads {threads}, so that nothing is repeated"
)
NO_RECIPE = '{file} names no recipe; write recipe = "...", with one of {recipes}'
STORE_IS_A_FILE = "the store must be a folder, and {file} is a file; name another with --store"
ONLY_WITH = "{option} is for {engines}, and has no effect with --engine {engine}; leave it out, or choose that engine"
WHOLE_ID = "remove takes the whole id of a run, or 'last', got {word!r}; the runs are {runs}"
NO_CHANGE = "--set {word!r} must be name=value, as in --set training.epochs=3"
DIGITS_INSTEAD = (
    "no CIFAR-10 at hand, so {recipe} takes the embedded digits at this scale; --root DIR, or the variable {variable}, "
    "names the folder that holds cifar10/"
)
CELLS_FAILED = "{failed} of {cells} cells failed, as said above; what finished is kept, so start the run again"
