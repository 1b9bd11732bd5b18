#!/bin/sh
# Makes echarts.min.js (Apache ECharts with the charts and components that the report draws, nothing else) and
# echarts.LICENSE.txt in this folder. Needs node with npm; run it to change the version or the parts.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > package.json <<'JSON'
{"private": true, "dependencies": {"echarts": "6.1.0", "zrender": "6.1.0", "tslib": "2.3.0", "esbuild": "0.28.2"}}
JSON
npm install --no-audit --no-fund
cat > entry.js <<'JS'
import * as echarts from "echarts/core";
import { BarChart, CustomChart, HeatmapChart, LineChart, ScatterChart } from "echarts/charts";
import {
  AriaComponent, DataZoomComponent, GridComponent, LegendComponent, MarkLineComponent, ToolboxComponent,
  TooltipComponent, VisualMapComponent,
} from "echarts/components";
import { LabelLayout } from "echarts/features";
import { CanvasRenderer } from "echarts/renderers";

echarts.use([
  BarChart, CustomChart, HeatmapChart, LineChart, ScatterChart, AriaComponent, DataZoomComponent, GridComponent,
  LabelLayout, LegendComponent, MarkLineComponent, ToolboxComponent, TooltipComponent, VisualMapComponent,
  CanvasRenderer,
]);
window.echarts = echarts;
JS
npx esbuild entry.js --bundle --minify --format=iife --target=es2020 --legal-comments=none \
  --define:process.env.NODE_ENV='"production"' --outfile=bundle.js
version=$(node -p 'require("echarts/package.json").version')
{
  echo "/*! Apache ECharts $version, Apache License 2.0: see echarts.LICENSE.txt; bundled by echarts.build.sh */"
  cat bundle.js
} > "$here/echarts.min.js"
{
  echo "echarts.min.js is made of Apache ECharts $version, zrender and tslib. Their notices and licences follow."
  for part in echarts/NOTICE echarts/LICENSE zrender/LICENSE tslib/LICENSE.txt; do
    printf '\n\n==== %s ====\n\n' "$part"
    cat "node_modules/$part"
  done
} > "$here/echarts.LICENSE.txt"
