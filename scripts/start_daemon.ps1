<#
.SYNOPSIS
Starts the Luna daemon on Windows.

.DESCRIPTION
Takes the first Python of these that exists: .venv of this checkout (made by luna.py), the one that
COMFYUI_PYTHON names, then the environment of the ComfyUI that this checkout is inside of, or that
COMFYUI_PATH names: .venv, venv, or python_embeded of the portable build.

.PARAMETER Device
Device for the models: auto, cpu, cuda:0, ... Without it the daemon's own setting holds.

.PARAMETER Port
TCP port. Without it the daemon's own setting holds.

.PARAMETER ServiceType
full, clip or vae. Without it the daemon's own setting holds.

.PARAMETER Detached
Starts the daemon without a window and returns. Without it the daemon runs in this window until Ctrl+C.

.EXAMPLE
powershell -ExecutionPolicy Bypass -File scripts\start_daemon.ps1 -Device cuda:0 -Detached
#>
[CmdletBinding()]
param(
    [string] $Device,
    [ValidateRange(0, 65535)] [int] $Port,
    [ValidateSet('full', 'clip', 'vae')] [string] $ServiceType,
    [switch] $Detached
)

Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

$root = Split-Path -Parent $PSScriptRoot
$launcher = Join-Path $root 'luna_daemon\daemon_server.py'

function Get-ComfyUIFolder {
    if ($env:COMFYUI_PATH) { return $env:COMFYUI_PATH }
    $parent = Split-Path -Parent $root
    if ((Split-Path -Leaf $parent) -eq 'custom_nodes') { return Split-Path -Parent $parent }
    return $null
}

function Get-PythonCandidates {
    $candidates = @(Join-Path $root '.venv\Scripts\python.exe')
    if ($env:COMFYUI_PYTHON) { $candidates += $env:COMFYUI_PYTHON }
    $comfyui = Get-ComfyUIFolder
    if ($comfyui) {
        $candidates += Join-Path $comfyui '.venv\Scripts\python.exe'
        $candidates += Join-Path $comfyui 'venv\Scripts\python.exe'
        $above = Split-Path -Parent $comfyui
        if ($above) { $candidates += Join-Path $above 'python_embeded\python.exe' }
    }
    return $candidates
}

function Stop-WithMessage([string] $Message) {
    [Console]::Error.WriteLine($Message)
    exit 1
}

if (-not (Test-Path -LiteralPath $launcher -PathType Leaf)) {
    Stop-WithMessage "There is no $launcher. This script has to stay in the folder 'scripts' of Luna Collection."
}

$candidates = @(Get-PythonCandidates)
$python = $candidates | Where-Object { Test-Path -LiteralPath $_ -PathType Leaf } | Select-Object -First 1
if (-not $python) {
    $list = ($candidates | ForEach-Object { "    $_" }) -join "`n"
    Stop-WithMessage ("No Python was found. Looked for:`n$list`n" +
        "Run 'py luna.py setup' in $root, or set COMFYUI_PYTHON to the python.exe that ComfyUI runs with.")
}

& $python -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else 1)'
if ($LASTEXITCODE -ne 0) {
    Stop-WithMessage "$python does not start, or is older than Python 3.10, which Luna needs."
}
& $python -c 'import importlib.util as u, sys; sys.exit(0 if u.find_spec(''msgspec'') else 1)'
if ($LASTEXITCODE -ne 0) {
    Stop-WithMessage ("$python lacks the packages of the daemon. Install them:`n" +
        "    & '$python' -m pip install -r '$(Join-Path $root 'requirements.txt')'")
}

$settings = @()
if ($PSBoundParameters.ContainsKey('Device')) { $settings += @('--device', $Device) }
if ($PSBoundParameters.ContainsKey('Port')) { $settings += @('--port', "$Port") }
if ($PSBoundParameters.ContainsKey('ServiceType')) { $settings += @('--service-type', $ServiceType) }

if (-not $Detached) {
    & $python $launcher @settings
    exit $LASTEXITCODE
}

# Start-Process joins its arguments with spaces, so a path with spaces needs quotes of its own.
$process = Start-Process -FilePath $python -ArgumentList (@("`"$launcher`"") + $settings) `
    -WorkingDirectory $root -WindowStyle Hidden -PassThru
Start-Sleep -Seconds 2
if ($process.HasExited) {
    Stop-WithMessage ("The daemon ended at once, with code $($process.ExitCode). " +
        'Start it without -Detached to see why.')
}
Write-Output "The daemon runs in the background, as process $($process.Id)."
Write-Output "To stop it: & '$python' '$launcher' stop"
