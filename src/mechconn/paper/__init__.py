"""The reproduction of Lubana et al. 2023 as an application: recipes, steps, published numbers, claims, run page."""

from mechconn.paper._choose import chosen as chosen
from mechconn.paper._demo import demo_settings as demo_settings
from mechconn.paper._demo import run_demo as run_demo
from mechconn.paper._departures import sentence as sentence
from mechconn.paper._engines import ENGINES as ENGINES
from mechconn.paper._engines import engine_of as engine_of
from mechconn.paper._experiments import EXPERIMENTS as EXPERIMENTS
from mechconn.paper._recipes import RECIPES as RECIPES
from mechconn.paper._recipes import SCALES as SCALES
from mechconn.paper._run_differences import Pair as Pair
from mechconn.paper._run_differences import differences as differences
from mechconn.paper._run_page import save_runs as save_runs
from mechconn.paper._run_recipe import Plan as Plan
from mechconn.paper._run_recipe import Watch as Watch
from mechconn.paper._run_recipe import run as run
from mechconn.paper._run_tables import MEASURES as MEASURES
from mechconn.paper._run_tables import Table as Table
from mechconn.paper._run_tables import Value as Value
from mechconn.paper._run_tables import accuracies as accuracies
from mechconn.paper._run_tables import barriers as barriers
from mechconn.paper._run_tables import in_order as in_order
from mechconn.paper._run_tables import widths as widths
