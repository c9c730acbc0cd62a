// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

import {Control} from "../src/Control.sol";
import {Parameters} from "../src/Parameters.sol";
import {SwarmRegistry} from "../src/SwarmRegistry.sol";
import {TermIsZero, Terms} from "../src/Terms.sol";
import {Tokens} from "../src/Tokens.sol";
import {SwarmTest} from "./SwarmTest.sol";

contract ControlTest is SwarmTest {
    address private next = makeAddr("next");

    // ---- founding

    function test_theTermsAreReadBack() public {
        Terms memory full = terms();
        full.stakeToken = address(stakeToken);
        full.stakeAmount = 1;
        full.unbondingSeconds = 2;
        registry = deploy(full);
        assertEq(abi.encode(registry.terms()), abi.encode(full));
        assertEq(registry.version(), "rl-swarm registry 2");
        assertEq(registry.recipeHash(), RECIPE);
        assertEq(registry.genesis(), GENESIS);
        assertEq(registry.roundSeconds(), 60);
        assertEq(registry.epochSeconds(), EPOCH);
        assertEq(registry.challengeSeconds(), CHALLENGE);
        (, string memory name, string memory version, uint256 chainId, address verifyingContract,,) =
            registry.eip712Domain();
        assertEq(
            abi.encode(name, version, chainId, verifyingContract),
            abi.encode("SwarmRegistry", "2", block.chainid, registry)
        );
    }

    function test_badTermsAreRefused() public {
        Terms memory bad = terms();
        bad.recipeHash = 0;
        expectZero(bad, "recipeHash");
        bad = terms();
        bad.roundSeconds = 0;
        expectZero(bad, "roundSeconds");
        bad = terms();
        bad.epochSeconds = 0;
        expectZero(bad, "epochSeconds");
        bad = terms();
        bad.challengeSeconds = 0;
        expectZero(bad, "challengeSeconds");
        bad = terms();
        bad.governance = address(0);
        expectZero(bad, "governance");
        bad = terms();
        bad.guardian = address(0);
        expectZero(bad, "guardian");
        bad = terms();
        (bad.stakeToken, bad.stakeAmount) = (address(stakeToken), 1);
        expectZero(bad, "unbondingSeconds");
    }

    function testFuzz_aTokenAndItsAmountBelongTogether(uint256 amount, address nobody) public {
        amount = bound(amount, 1, type(uint256).max);
        vm.assume(nobody.code.length == 0 && nobody != address(0));
        Terms memory bad = terms();
        (bad.rewardToken, bad.tokensPerPoint) = (address(0), amount);
        expectRefused(bad, abi.encodeWithSelector(Tokens.TokenWithoutAmount.selector, address(0), amount));
        (bad.rewardToken, bad.tokensPerPoint) = (address(rewardToken), 0);
        expectRefused(bad, abi.encodeWithSelector(Tokens.TokenWithoutAmount.selector, address(rewardToken), 0));
        (bad.rewardToken, bad.tokensPerPoint) = (nobody, amount);
        expectRefused(bad, abi.encodeWithSelector(Tokens.NoTokenAt.selector, nobody));
        bad = terms();
        (bad.stakeToken, bad.stakeAmount) = (address(0), amount);
        expectRefused(bad, abi.encodeWithSelector(Tokens.TokenWithoutAmount.selector, address(0), amount));
    }

    function testFuzz_withADelayTheRolesAreTwoAccounts(uint32 delay) public {
        Terms memory same = terms();
        same.guardian = governance;
        same.delaySeconds = delay;
        if (delay > 0) vm.expectRevert(abi.encodeWithSelector(Control.RolesNotSeparate.selector, governance));
        registry = deploy(same);
        if (delay == 0) assertEq(registry.guardian(), registry.governance());
    }

    // ---- pause

    function testFuzz_onlyTheGuardianPausesAndOnlyGovernanceUnpauses(address sender) public {
        vm.assume(sender != guardian && sender != governance);
        expectNotHolder(guardian, sender);
        registry.pause();
        expectNotHolder(guardian, governance);
        registry.pause();
        pause();
        assertTrue(registry.paused());
        expectNotHolder(governance, sender);
        registry.unpause();
        expectNotHolder(governance, guardian);
        registry.unpause();
        unpause();
        assertFalse(registry.paused());
        vm.expectRevert(Pausable.ExpectedPause.selector);
        unpause();
    }

    // ---- announced changes

    function testFuzz_aRecipeAppliesOnlyAfterTheDelay(bytes32 recipe, uint256 wait, address sender) public {
        vm.assume(recipe != 0);
        wait = bound(wait, 0, 3 * uint256(DELAY));
        vm.expectEmit();
        emit Parameters.RecipeAnnounced(recipe, GENESIS + DELAY);
        vm.prank(governance);
        registry.announceRecipe(recipe);
        assertEq(registry.announced(Control.Change.Recipe).value, recipe);
        assertEq(registry.announced(Control.Change.Recipe).appliesAt, GENESIS + DELAY);
        skip(wait);
        if (wait < DELAY) expectTooEarly(Control.Change.Recipe);
        vm.prank(sender);
        registry.applyRecipe();
        assertEq(registry.recipeHash(), wait < DELAY ? RECIPE : recipe);
        if (wait < DELAY) return;
        expectNotAnnounced(Control.Change.Recipe);
        registry.applyRecipe();
    }

    function test_aRecipeHashIsNotZero() public {
        vm.expectRevert(abi.encodeWithSelector(TermIsZero.selector, "recipeHash"));
        vm.prank(governance);
        registry.announceRecipe(0);
    }

    function test_anAnnouncementReplacesTheOneBefore() public {
        vm.startPrank(governance);
        registry.announceRecipe("first");
        skip(DELAY - 1);
        registry.announceRecipe("second");
        skip(1);
        vm.expectRevert(
            abi.encodeWithSelector(Control.TooEarly.selector, Control.Change.Recipe, GENESIS + 2 * DELAY - 1)
        );
        registry.applyRecipe();
    }

    function testFuzz_governanceTakesAChangeBack(uint8 kind) public {
        Control.Change change = Control.Change(kind % 4);
        vm.startPrank(governance);
        expectNotAnnounced(change);
        registry.cancel(change);
        if (change == Control.Change.Recipe) registry.announceRecipe("next");
        if (change == Control.Change.Bootstrap) registry.announceBootstrap(new string[](0));
        if (change == Control.Change.Governance) registry.announceGovernance(next);
        if (change == Control.Change.Guardian) registry.announceGuardian(next);
        vm.expectEmit();
        emit Control.ChangeCancelled(change);
        registry.cancel(change);
        skip(DELAY);
        expectNotAnnounced(change);
        if (change == Control.Change.Recipe) registry.applyRecipe();
        if (change == Control.Change.Bootstrap) registry.applyBootstrap(new string[](0));
        if (change == Control.Change.Governance) registry.acceptGovernance();
        if (change == Control.Change.Guardian) registry.acceptGuardian();
    }

    function testFuzz_onlyGovernanceAnnounces(address sender) public {
        vm.assume(sender != governance);
        expectNotHolder(governance, sender);
        registry.announceRecipe("next");
        expectNotHolder(governance, sender);
        registry.announceBootstrap(new string[](0));
        expectNotHolder(governance, sender);
        registry.announceGovernance(sender);
        expectNotHolder(governance, sender);
        registry.announceGuardian(sender);
        expectNotHolder(governance, sender);
        registry.cancel(Control.Change.Recipe);
    }

    function testFuzz_bootstrapAddressesAreBounded(uint256 count, uint256 length) public {
        count = bound(count, 0, 20);
        length = bound(length, 0, 250);
        string[] memory addresses = new string[](count);
        for (uint256 i = 0; i < count; ++i) {
            addresses[i] = string(new bytes(length));
        }
        bool tooMany = count > 16;
        bool badLength = count > 0 && (length == 0 || length > 200);
        if (tooMany) {
            vm.expectRevert(abi.encodeWithSelector(Parameters.TooManyAddresses.selector, count));
        } else if (badLength) {
            vm.expectRevert(abi.encodeWithSelector(Parameters.AddressLengthOutOfRange.selector, 0, length));
        }
        vm.prank(governance);
        registry.announceBootstrap(addresses);
        if (tooMany || badLength) return;
        skip(DELAY);
        registry.applyBootstrap(addresses);
        assertEq(abi.encode(registry.bootstrap()), abi.encode(addresses));
    }

    function test_onlyTheAnnouncedAddressesApply() public {
        string[] memory addresses = new string[](1);
        addresses[0] = "/dns4/a/tcp/1";
        vm.expectEmit();
        emit Parameters.BootstrapAnnounced(addresses, GENESIS + DELAY);
        vm.prank(governance);
        registry.announceBootstrap(addresses);
        expectTooEarly(Control.Change.Bootstrap);
        registry.applyBootstrap(addresses);
        skip(DELAY);
        vm.expectRevert(Parameters.NotTheAnnouncedAddresses.selector);
        registry.applyBootstrap(new string[](0));
        vm.expectEmit();
        emit Parameters.BootstrapChanged(addresses);
        registry.applyBootstrap(addresses);
    }

    // ---- handing roles over

    function testFuzz_aRoleIsTakenByTheOneAnnounced(address sender, bool guardians) public {
        vm.assume(sender != next);
        Control.Change change = guardians ? Control.Change.Guardian : Control.Change.Governance;
        vm.prank(governance);
        guardians ? registry.announceGuardian(next) : registry.announceGovernance(next);
        expectTooEarly(change);
        vm.prank(next);
        accept(guardians);
        skip(DELAY);
        vm.expectRevert(abi.encodeWithSelector(Control.NotRoleHolder.selector, sender, next));
        vm.prank(sender);
        accept(guardians);
        vm.prank(next);
        accept(guardians);
        assertEq(guardians ? registry.guardian() : registry.governance(), next);
        assertEq(guardians ? registry.governance() : registry.guardian(), guardians ? governance : guardian);
    }

    function testFuzz_noRoleIsTakenByTheOther(bool guardians) public {
        address other = guardians ? governance : guardian;
        vm.prank(governance);
        guardians ? registry.announceGuardian(other) : registry.announceGovernance(other);
        skip(DELAY);
        vm.expectRevert(abi.encodeWithSelector(Control.RolesNotSeparate.selector, other));
        vm.prank(other);
        accept(guardians);
    }

    function accept(bool guardians) private {
        guardians ? registry.acceptGuardian() : registry.acceptGovernance();
    }

    function expectZero(Terms memory bad, string memory term) private {
        expectRefused(bad, abi.encodeWithSelector(TermIsZero.selector, term));
    }

    function expectRefused(Terms memory bad, bytes memory reason) private {
        vm.expectRevert(reason);
        deploy(bad);
    }

    function expectNotHolder(address holder, address sender) private {
        vm.expectRevert(abi.encodeWithSelector(Control.NotRoleHolder.selector, sender, holder));
        vm.prank(sender);
    }

    function expectTooEarly(Control.Change change) private {
        vm.expectRevert(abi.encodeWithSelector(Control.TooEarly.selector, change, GENESIS + DELAY));
    }

    function expectNotAnnounced(Control.Change change) private {
        vm.expectRevert(abi.encodeWithSelector(Control.NotAnnounced.selector, change));
    }
}
