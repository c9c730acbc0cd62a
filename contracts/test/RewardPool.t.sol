// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {Vm} from "forge-std/Test.sol";

import {RewardPool} from "../src/RewardPool.sol";
import {Settlement} from "../src/Settlement.sol";
import {SwarmRegistry} from "../src/SwarmRegistry.sol";
import {Terms} from "../src/Terms.sol";
import {CallbackToken, FeeToken} from "./mocks/Tokens.sol";
import {SwarmTest} from "./SwarmTest.sol";

contract RewardPoolTest is SwarmTest {
    Vm.Wallet[] private wallets;
    address private a;
    address private b;

    function setUp() public override {
        super.setUp();
        Vm.Wallet[] memory four = peers(4);
        for (uint256 i = 0; i < 4; ++i) {
            wallets.push(four[i]);
        }
        (a, b) = (four[0].addr, four[1].addr);
    }

    function testFuzz_aFinalEpochPays(uint256 ofA, uint256 ofB, address sender) public {
        ofA = bound(ofA, 1, 1e30);
        ofB = bound(ofB, 0, 1e30);
        fund(3e12 * (ofA + ofB));
        settle(0, ofA, ofB);
        uint256 pay = ofA * PER_POINT / POINT;
        vm.expectEmit();
        emit RewardPool.PointsSettled(a, 0, ofA);
        vm.expectEmit();
        emit RewardPool.RewardPaid(a, a, pay);
        vm.prank(sender);
        registry.claim(0, a, ofA, proofBy(b, ofB));
        assertEq(rewardToken.balanceOf(a), pay);
        assertEq(registry.settledPoints(a), ofA);
        assertEq(registry.owed(a), 0);
        (, uint256 paid) = registry.pool();
        assertEq(paid, pay);
    }

    function test_theOwnerIsPaidAlsoForAReplacedKey() public {
        address owner = makeAddr("owner");
        fund(1000e18);
        link(wallets[0], owner);
        settle(0, 10 * POINT, POINT);
        Vm.Wallet memory next = key(99);
        rotate(a, next);
        registry.claim(0, a, 10 * POINT, proofBy(b, POINT));
        assertEq(rewardToken.balanceOf(owner), 10 * PER_POINT);
        vm.prank(owner);
        registry.unlinkOwner(next.addr);
        assertEq(registry.ownerOf(a), owner);
    }

    function testFuzz_onlyWhatIsProvenIsClaimed(address account, uint256 points, bytes32[] calldata proof) public {
        settle(0, 10 * POINT, POINT);
        vm.assume(proof.length != 1 || proof[0] != leafOf(b, POINT));
        points = bound(points, 1, type(uint256).max);
        vm.expectRevert(abi.encodeWithSelector(RewardPool.ProofInvalid.selector, account, points));
        registry.claim(0, account, points, proof);
        vm.expectRevert(abi.encodeWithSelector(RewardPool.ProofInvalid.selector, a, points));
        registry.claim(0, a, points, proof);
    }

    function test_onlyAFinalEpochIsClaimed() public {
        expectNotFinal(0, Settlement.Status.None);
        vm.warp(startOf(1));
        post(wallets, 0, rootOf(a, POINT, b, POINT), 2 * POINT);
        expectNotFinal(0, Settlement.Status.Pending);
        vm.prank(guardian);
        registry.freeze(0);
        skip(CHALLENGE);
        expectNotFinal(0, Settlement.Status.Frozen);
        vm.expectRevert(abi.encodeWithSelector(RewardPool.NotFinal.selector, 0, Settlement.Status.Frozen));
        registry.claimMany(0, new RewardPool.Claim[](0));

        settle(1, POINT, POINT); // what was frozen comes with the next epoch
        registry.claim(1, a, POINT, proofBy(b, POINT));
        assertEq(registry.settledPoints(a), POINT);
    }

    function testFuzz_settledPointsNeverFall(uint256 first, uint256 second) public {
        first = bound(first, 1, 1e30);
        second = bound(second, 0, first);
        settle(0, first, first);
        registry.claim(0, a, first, proofBy(b, first));
        settle(1, second, 2 * first - second);
        vm.expectRevert(abi.encodeWithSelector(RewardPool.NothingToClaim.selector, a, first));
        registry.claim(1, a, second, proofBy(b, 2 * first - second));
        vm.expectRevert(abi.encodeWithSelector(RewardPool.NothingToClaim.selector, a, first));
        registry.claim(0, a, first, proofBy(b, first));
    }

    function test_noMorePointsAreSettledThanTheEpochHas() public {
        vm.warp(startOf(1));
        post(wallets, 0, rootOf(a, 2 * POINT, b, 2 * POINT), 3 * POINT);
        skip(CHALLENGE);
        registry.claim(0, a, 2 * POINT, proofBy(b, 2 * POINT));
        vm.expectRevert(abi.encodeWithSelector(RewardPool.PointsExceedTotal.selector, 4 * POINT, 3 * POINT));
        registry.claim(0, b, 2 * POINT, proofBy(a, 2 * POINT));
    }

    function testFuzz_whatThePoolCannotPayStaysOwed(uint256 funded, uint256 more) public {
        funded = bound(funded, 0, 30e18);
        more = bound(more, 0, 60e18);
        fund(funded);
        settle(0, 10 * POINT, POINT); // 30 and 3 tokens
        registry.claim(0, a, 10 * POINT, proofBy(b, POINT));
        assertEq(rewardToken.balanceOf(a), funded);
        assertEq(registry.owed(a), 30e18 - funded);
        registry.payOwed(a);
        assertEq(rewardToken.balanceOf(a), funded);
        fund(more);
        registry.payOwed(a);
        uint256 all = funded + more;
        assertEq(rewardToken.balanceOf(a), all < 30e18 ? all : 30e18);
        registry.payOwed(a);
        registry.payOwed(stranger);
        assertEq(rewardToken.balanceOf(stranger), 0);
    }

    function test_manyClaimsSkipWhatIsSettled() public {
        fund(1000e18);
        settle(0, 10 * POINT, POINT);
        RewardPool.Claim[] memory claims = new RewardPool.Claim[](3);
        claims[0] = RewardPool.Claim(a, 10 * POINT, proofBy(b, POINT));
        claims[1] = RewardPool.Claim(b, POINT, proofBy(a, 10 * POINT));
        claims[2] = claims[0];
        registry.claim(0, b, POINT, proofBy(a, 10 * POINT)); // somebody was faster
        registry.claimMany(0, claims);
        assertEq(rewardToken.balanceOf(a), 30e18);
        assertEq(rewardToken.balanceOf(b), 3e18);
        claims[1] = RewardPool.Claim(b, 2 * POINT, proofBy(a, 10 * POINT));
        vm.expectRevert(abi.encodeWithSelector(RewardPool.ProofInvalid.selector, b, 2 * POINT));
        registry.claimMany(0, claims);
    }

    function testFuzz_manyClaimsAreBounded(uint256 count) public {
        count = bound(count, 65, 300);
        vm.expectRevert(abi.encodeWithSelector(RewardPool.TooManyClaims.selector, count));
        registry.claimMany(0, new RewardPool.Claim[](count));
    }

    function test_withoutAPoolPointsAreSettledAllTheSame() public {
        Terms memory plain = terms();
        (plain.rewardToken, plain.tokensPerPoint) = (address(0), 0);
        vm.warp(GENESIS);
        registry = deploy(plain);
        for (uint256 i = 0; i < 4; ++i) {
            register(wallets[i]);
        }
        settle(0, 10 * POINT, POINT);
        registry.claim(0, a, 10 * POINT, proofBy(b, POINT));
        assertEq(registry.settledPoints(a), 10 * POINT);
        assertEq(registry.owed(a), 0);
        vm.expectRevert(RewardPool.NoPool.selector);
        registry.fund(1);
    }

    function testFuzz_onlyWhatArrivesIsBooked(uint96 amount) public {
        FeeToken token = new FeeToken();
        Terms memory withFee = terms();
        withFee.rewardToken = address(token);
        registry = deploy(withFee);
        token.mint(address(this), amount);
        token.approve(address(registry), amount);
        vm.expectEmit();
        emit RewardPool.PoolFunded(address(this), amount - amount / 10);
        registry.fund(amount);
        (uint256 funded, uint256 paid) = registry.pool();
        assertEq(funded, token.balanceOf(address(registry)));
        assertEq(paid, 0);
    }

    function test_noCallbackCountsTwice() public {
        CallbackToken token = new CallbackToken();
        Terms memory hostile = terms();
        hostile.rewardToken = address(token);
        registry = deploy(hostile);
        token.mint(address(this), 2);
        token.approve(address(registry), 2);
        bytes[4] memory calls = [
            abi.encodeCall(registry.fund, 1),
            abi.encodeCall(registry.payOwed, a),
            abi.encodeCall(registry.claim, (0, a, 1, new bytes32[](0))),
            abi.encodeCall(registry.claimMany, (0, new RewardPool.Claim[](0)))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            token.callBack(address(registry), calls[i]);
            vm.expectRevert(ReentrancyGuard.ReentrancyGuardReentrantCall.selector);
            registry.fund(1);
        }
    }

    function test_pausedMeansPaused() public {
        pause();
        vm.expectRevert(Pausable.EnforcedPause.selector);
        registry.claim(0, a, 1, new bytes32[](0));
        vm.expectRevert(Pausable.EnforcedPause.selector);
        registry.claimMany(0, new RewardPool.Claim[](0));
        vm.expectRevert(Pausable.EnforcedPause.selector);
        registry.payOwed(a);
        vm.expectRevert(Pausable.EnforcedPause.selector);
        registry.fund(1);
    }

    function settle(uint64 epoch, uint256 ofA, uint256 ofB) private {
        vm.warp(startOf(epoch + 1));
        post(wallets, epoch, rootOf(a, ofA, b, ofB), ofA + ofB);
        skip(CHALLENGE);
    }

    function expectNotFinal(uint64 epoch, Settlement.Status status) private {
        vm.expectRevert(abi.encodeWithSelector(RewardPool.NotFinal.selector, epoch, status));
        registry.claim(epoch, a, POINT, proofBy(b, POINT));
    }
}
