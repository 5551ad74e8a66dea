"""The reproduction of Lubana et al. 2023 as an application: recipes, steps, published numbers, claims, run page."""

from mechconn.paper._demo import choose_demo_settings as choose_demo_settings
from mechconn.paper._demo import run_demo as run_demo
from mechconn.paper._departures import write_departures as write_departures
from mechconn.paper._engines import ENGINES as ENGINES
from mechconn.paper._engines import make_engine as make_engine
from mechconn.paper._experiments import EXPERIMENTS as EXPERIMENTS
from mechconn.paper._recipes import RECIPES as RECIPES
from mechconn.paper._recipes import SCALES as SCALES
from mechconn.paper._resolve_settings import resolve_settings as resolve_settings
from mechconn.paper._run_differences import NumberPair as NumberPair
from mechconn.paper._run_differences import compare_runs as compare_runs
from mechconn.paper._run_page import save_runs as save_runs
from mechconn.paper._run_recipe import RunPlan as RunPlan
from mechconn.paper._run_recipe import RunWatcher as RunWatcher
from mechconn.paper._run_recipe import run_plan as run_plan
from mechconn.paper._run_tables import MEASURE_TITLES as MEASURE_TITLES
from mechconn.paper._run_tables import SeedMean as SeedMean
from mechconn.paper._run_tables import ValueTable as ValueTable
from mechconn.paper._run_tables import sort_splits as sort_splits
from mechconn.paper._run_tables import tabulate_accuracies as tabulate_accuracies
from mechconn.paper._run_tables import tabulate_barriers as tabulate_barriers
from mechconn.paper._run_tables import tabulate_widths as tabulate_widths
